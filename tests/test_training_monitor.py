import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from cadlib.errors import RunInvalid
from cadlib.training import monitor
from cadlib.training.monitor import (
    CURVES_FOLDER,
    EVENT_FILES,
    RunReader,
    State,
    differences,
    find_runs,
)
from cadlib.training.run import Curves

ROOT = Path(__file__).parents[1]
FACTS = {
    "settings": {"batch_size": 8, "seed": 0},
    "steps": 20,
    "steps_per_epoch": 10,
    "host": "elsewhere",
}
HOLD = """
import json, sys, time
from pathlib import Path
from cadlib.training.run import Curves
curves = Curves(Path(sys.argv[1]), json.loads(sys.argv[2]), 0)
curves.write(5, {"step/loss": 0.5})
print("begun", flush=True)
time.sleep(60)
"""


@pytest.fixture
def here(monkeypatch):
    """Let the runs of these tests have trained on this machine."""
    monkeypatch.setattr(monitor.socket, "gethostname", lambda: "elsewhere")


def write(run_dir, points, facts=FACTS, first_step=0):
    """Write curves as a training does that then stops."""
    curves = Curves(run_dir / CURVES_FOLDER, facts, first_step)
    for step, values in points:
        curves.write(step, values)
    curves.close()
    return run_dir


def read(run_dir):
    return RunReader(run_dir, run_dir.name).read()


def test_written_curves_are_read_back(tmp_path, here):
    before = datetime.now(UTC)
    points = [(5, {monitor.LOSS: 2.0}), (10, {monitor.LOSS: 1.5, monitor.BALANCED_ACCURACY: 0.25})]
    run = read(write(tmp_path / "mine", points))
    assert run.name == "mine"
    assert run.settings == FACTS["settings"]
    assert (run.step, run.epoch, run.epochs) == (10, 1, 2)
    assert run.curves[monitor.LOSS] == monitor.Curve((5, 10), (0.5, 1.0), (2.0, 1.5))
    assert run.curves[monitor.BALANCED_ACCURACY].values == (0.25,)
    assert run.curves[monitor.MALIGNANT_AUC].steps == ()
    assert run.best == (1, 0.25)
    assert before.timestamp() - 1 < run.started.timestamp() <= run.heard.timestamp() <= time.time()


def test_the_best_epoch_is_the_first_of_the_highest_balanced_accuracy_and_never_an_undefined_one(
    tmp_path,
):
    values = (float("nan"), 0.25, 0.5, 0.5)
    points = [
        (10 * epoch, {monitor.BALANCED_ACCURACY: value})
        for epoch, value in enumerate(values, start=1)
    ]
    assert read(write(tmp_path, points)).best == (3, 0.5)
    assert read(write(tmp_path, points[:1])).best is None


def test_the_time_left_is_that_of_the_steps_to_come(tmp_path):
    run = read(write(tmp_path, [(5, {monitor.SPEED: 10.0}), (15, {monitor.SPEED: 4.0})]))
    assert run.seconds_left == (20 - 15) * 8 / 4


def test_a_reader_reads_on_where_it_left_off(tmp_path, monkeypatch):
    curves = Curves(tmp_path / CURVES_FOLDER, FACTS, 0)
    reader = RunReader(tmp_path, "mine")
    curves.write(5, {monitor.LOSS: 2.0})
    assert reader.read().curves[monitor.LOSS].steps == (5,)
    processed = []
    process = reader._events._ProcessEvent

    def process_and_note(event):
        processed.append(event.step)
        process(event)

    monkeypatch.setattr(reader._events, "_ProcessEvent", process_and_note)
    curves.write(10, {monitor.LOSS: 1.0})
    assert reader.read().curves[monitor.LOSS].steps == (5, 10)
    assert processed == [10]
    curves.close()


def test_a_half_written_last_record_is_left_for_the_next_time(tmp_path):
    write(tmp_path, [(5, {monitor.LOSS: 2.0}), (10, {monitor.LOSS: 1.0})])
    (path,) = (tmp_path / CURVES_FOLDER).glob(EVENT_FILES)
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    reader = RunReader(tmp_path, "mine")
    assert reader.read().curves[monitor.LOSS].steps == (5,)
    with path.open("ab") as file:
        file.write(content[-7:])
    assert reader.read().curves[monitor.LOSS].steps == (5, 10)


def test_a_run_goes_on_in_the_same_curves_after_a_half_written_record(tmp_path):
    write(tmp_path, [(5, {monitor.LOSS: 2.0}), (10, {monitor.LOSS: 1.0})])
    (path,) = (tmp_path / CURVES_FOLDER).glob(EVENT_FILES)
    path.write_bytes(path.read_bytes()[:-7])
    write(tmp_path, [(10, {monitor.LOSS: 0.5})], first_step=5)
    assert read(tmp_path).curves[monitor.LOSS] == monitor.Curve((5, 10), (0.5, 1.0), (2.0, 0.5))


@pytest.mark.skipif(os.name != "posix", reason="asks for the signals of POSIX")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_is_running_as_long_as_its_process_lives_however_it_ends(tmp_path, here, end):
    line = [sys.executable, "-c", HOLD, str(tmp_path / CURVES_FOLDER), json.dumps(FACTS)]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        assert [read(tmp_path).state for _ in range(2)] == [State.RUNNING] * 2
        process.send_signal(end)
    assert read(tmp_path).state is State.STOPPED


def test_whether_a_run_of_another_machine_runs_is_not_known_until_it_is_finished(tmp_path):
    assert read(write(tmp_path / "a", [(5, {monitor.LOSS: 1.0})])).state is State.UNKNOWN
    assert read(write(tmp_path / "b", [(20, {monitor.LOSS: 1.0})])).state is State.FINISHED


def test_the_state_of_a_run_without_a_lock_is_unknown(tmp_path, here):
    write(tmp_path, [(5, {monitor.LOSS: 1.0})])
    (tmp_path / CURVES_FOLDER / monitor.LOCK_FILE).unlink()
    assert read(tmp_path).state is State.UNKNOWN


def test_runs_are_found_by_name_the_last_begun_first(tmp_path):
    for name in ("old", "across/all", "new"):
        write(tmp_path / name, [])
    for name, time_s in (("old", 1), ("across/all", 2), ("new", 3)):
        (path,) = (tmp_path / name / CURVES_FOLDER).glob(EVENT_FILES)
        path.rename(path.with_name(f"events.out.tfevents.{time_s:010}.host.1.0"))
    (tmp_path / "no run").mkdir()
    assert list(find_runs(tmp_path)) == ["new", str(Path("across/all")), "old"]
    assert find_runs(tmp_path)["new"] == tmp_path / "new"
    assert find_runs(tmp_path / "missing") == {}


def test_a_folder_without_curves_is_refused(tmp_path):
    with pytest.raises(RunInvalid, match="but there are none"):
        read(tmp_path)


def test_curves_of_another_program_are_refused_in_a_sentence(tmp_path):
    with SummaryWriter(str(tmp_path / CURVES_FOLDER)) as writer:
        writer.add_scalar("loss", 1.0, 1)
    with pytest.raises(RunInvalid, match="another program wrote it"):
        read(tmp_path)


def test_without_tensorboard_the_reader_names_the_package(tmp_path, monkeypatch):
    write(tmp_path, [])
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    with pytest.raises(RunInvalid, match=r"requirements-train\.txt"):
        read(tmp_path)


def test_differing_settings_are_listed_with_both_values(tmp_path):
    other_facts = {**FACTS, "settings": {"batch_size": 16, "seed": 0, "new": 1}}
    pair = read(write(tmp_path / "a", [])), read(write(tmp_path / "b", [], other_facts))
    assert differences(pair) == {"batch_size": (8, 16), "new": (None, 1)}


def test_the_folder_of_runs_is_that_of_the_environment(monkeypatch):
    monkeypatch.delenv("CADLIB_RUNS", raising=False)
    assert monitor.runs_dir() == Path("runs")
    monkeypatch.setenv("CADLIB_RUNS", "/elsewhere")
    assert monitor.runs_dir() == Path("/elsewhere")
