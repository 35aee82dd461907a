"""A run is watched in a browser while a process trains it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
CHART = ".st-key-curve-epoch-validation_loss .js-plotly-plot"
POINTS = "(chart) => chart.data[0].y.length"
WATCH = """() => {
  window.places = new Set();  // where what stands below the charts was, frame by frame
  const below = () => [...document.querySelectorAll("p")].find((line) => line.innerText.includes("tensorboard"));
  const note = () => { window.places.add(below().getBoundingClientRect().y); requestAnimationFrame(note); };
  note();
}"""
TRAIN = """
import socket, sys
from contextlib import closing
from pathlib import Path
from cadlib.training.run import Curves
facts = {"settings": {"batch_size": 8}, "steps": 40, "steps_per_epoch": 10, "host": socket.gethostname()}
with closing(Curves(Path(sys.argv[1]), facts, 0)) as curves:
    for epoch in range(1, 5):
        curves.write(10 * epoch, {"step/loss": 1 / epoch, "epoch/validation_loss": 2 / epoch})
        print(epoch, flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def training(tmp_path, monkeypatch):
    """Return a process that writes an epoch whenever it is given a line, and ends after four."""
    monkeypatch.setenv("CADLIB_RUNS", str(tmp_path / "runs"))
    line = [sys.executable, "-c", TRAIN, str(tmp_path / "runs" / "mine" / "curves")]
    with subprocess.Popen(
        line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "1\n"
        yield process
        process.kill()


def next_epoch(process):
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_a_new_point_is_seen_without_a_reload_and_nothing_moves(training, cold_server, page):
    page.goto(f"{cold_server}/training")
    page.get_by_text("Running: epoch 1 of 4").wait_for()
    chart = page.locator(CHART).filter(visible=True)
    chart.wait_for()
    page.wait_for_timeout(3000)  # one look of the page that finds nothing new
    assert chart.evaluate(POINTS) == 1
    page.evaluate(WATCH)

    assert next_epoch(training) == "2\n"
    page.get_by_text("Running: epoch 2 of 4").wait_for()
    page.wait_for_function(
        f"[...document.querySelectorAll('{CHART}')].some((chart) => ({POINTS})(chart) === 2)"
    )
    page.wait_for_timeout(3000)
    assert page.evaluate("window.places.size") == 1, page.evaluate("[...window.places]")

    assert next_epoch(training) == "3\n"
    assert next_epoch(training) == "4\n"
    next_epoch(training)
    assert training.wait(timeout=60) == 0
    page.get_by_text("Finished: 4 epochs").wait_for()
    page.wait_for_function(
        f"[...document.querySelectorAll('{CHART}')].some((chart) => ({POINTS})(chart) === 4)"
    )
    assert page.evaluate("window.places.size") == 1, "reloaded, or moved"
