"""Nothing calls home, and nothing is written outside of the folders that the README names."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError

import pytest
from websockets.sync.client import connect

from benchmarks.sessions import open_tab
from cadlib import libraries
from cadlib.images.synthetic import demo_lesions
from tests.free_port import free_port
from tests.system_calls import ROOT, environment, python, run, watched, watching
from tests.tiny_training import TINY, flags

pytestmark = pytest.mark.timeout(300)
SETTINGS = flags({**TINY, "epochs": 1, "workers": 1})
SEES_ALL = """
import socket, pathlib
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.connect(("192.0.2.1", 9))
pathlib.Path("here").mkdir()
pathlib.Path("here/file").write_text("x")
open("/dev/null", "w").write("x")
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """Return an empty home folder. Its path is short: Python puts sockets into the temporary folder in it."""
    with TemporaryDirectory(prefix="home-") as folder:
        yield Path(folder)


def test_strace_sees_a_connection_and_a_file(home, tmp_path):
    calls = run(python("-c", SEES_ALL), tmp_path / "trace", environment(home), cwd=home)
    assert len(calls.connections) == 1
    assert calls.outside(home / "tmp") == [home / "here", home / "here" / "file"]


def test_predict_connects_nowhere_and_writes_only_its_heatmaps(home, tmp_path, synthetic_dataset):
    out = tmp_path / "heatmaps"
    command = python("-m", "cadlib", "predict", "docs/synthetic_lesion.png", "--heatmap", str(out))
    calls = run(command, tmp_path / "trace", environment(home))
    assert calls.connections == ()
    assert calls.outside(out) == []
    assert len([*out.iterdir()]) == 1


def test_every_heatmap_method_writes_only_into_the_cache(home, tmp_path):
    code = (
        "from cadlib import Model, read_image; from cadlib.saliency import heatmap\n"
        "model, image = Model.load('isic2019'), read_image('docs/synthetic_lesion.png')\n"
        "for method in heatmap.METHODS: heatmap.explain(model, image, 'MEL', method.key)\n"
    )
    cache = tmp_path / "cache"
    calls = run(python("-c", code), tmp_path / "trace", environment(home, CADLIB_CACHE=str(cache)))
    assert calls.connections == ()
    assert calls.outside(cache, home / "tmp") == []
    # Python writes test files there and deletes them.
    assert [*(home / "tmp").iterdir()] == []


def test_train_connects_nowhere_and_writes_only_run_model_and_cache(
    home, tmp_path, synthetic_dataset
):
    models = tmp_path / "models"
    cache = tmp_path / "cache"
    runs = tmp_path / "runs"
    models.mkdir()
    # Without the folder, the command would first try to create it.
    runs.mkdir()
    command = python(
        "-m", "cadlib", "train", "--data", str(synthetic_dataset), "--name", "tiny", *SETTINGS
    )
    places = {"CADLIB_MODELS": models, "CADLIB_CACHE": cache, "CADLIB_RUNS": runs}
    env = environment(home, **{name: str(place) for name, place in places.items()})
    calls = run(command, tmp_path / "trace", env)
    assert calls.connections == ()
    assert calls.outside(models, cache, runs, home / "tmp") == []
    assert [*(home / "tmp").iterdir()] == []


def read_two_images(port: int) -> None:
    """Read two images in a tab of the app, the first larger than Starlette keeps in memory."""
    tab = open_tab(f"http://localhost:{port}")
    large = demo_lesions()[0].png() + bytes(3_000_000)
    tab.give(("one.png", large), ("two.png", demo_lesions()[1].png()))
    headings = "\n".join(heading.body for heading in tab.elements["heading"])
    assert "malignant probability" in headings
    tab.socket.close()


def interrupt_children(server: subprocess.Popen) -> None:
    """End the process that strace watches: strace does not forward signals."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGINT)
    server.wait(60)


def test_the_app_connects_nowhere_and_writes_no_image(home, tmp_path):
    cache = tmp_path / "cache"
    env = environment(home, CADLIB_CACHE=str(cache))
    port = free_port()
    # With an open address and headless, Streamlit requests a server for the address of this
    # machine, to print it.
    flags = ("--server.headless=true", f"--server.port={port}", "--server.address=0.0.0.0")
    line = watching(tmp_path / "trace", python("-m", "streamlit", "run", "app.py", *flags))
    with (tmp_path / "log.txt").open("w") as log:
        server = subprocess.Popen(line, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(f"http://localhost:{port}/_stcore/health", server)
        read_two_images(port)
        refuse_a_foreign_page(port)
        # The app looks for the images of closed tabs every five seconds.
        time.sleep(7)
    finally:
        interrupt_children(server)
    calls = watched(tmp_path / "trace", ROOT)
    assert calls.connections == ()
    assert calls.outside(cache, home / "tmp") == []
    # A file without a name would appear as the folder.
    assert home / "tmp" not in calls.written
    assert [*(home / "tmp").iterdir()] == []
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def wait_for(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert server.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    pytest.fail("The server did not answer within 90 seconds.")


def refuse_a_foreign_page(port: int) -> None:
    """Open a WebSocket as a page of another site does: Streamlit looks up addresses to judge it."""
    from websockets.exceptions import InvalidStatus

    with (
        pytest.raises(InvalidStatus),
        connect(f"ws://localhost:{port}/_stcore/stream", origin="http://example.org"),
    ):
        pass


def test_telemetry_is_switched_off_despite_the_environment(monkeypatch):
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    libraries.silence()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_telemetry_is_off_before_any_import():
    code = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime': sys.exit(os.environ.get('ORT_DISABLE_TELEMETRY') != '1')\n"
        "sys.meta_path.insert(0, Watch())\n"
        "import cadlib.model.engine\n"
        "sys.exit(2)\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=False).returncode == 0
    )


def test_keeps_a_cache_folder_set_by_the_caller(monkeypatch, tmp_path):
    monkeypatch.setenv("MPLCONFIGDIR", "mine")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path))
    libraries.keep_together()
    assert os.environ["MPLCONFIGDIR"] == "mine"
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "torchinductor")


def test_a_cache_that_cannot_be_written_is_not_named_to_libraries(monkeypatch, tmp_path):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    libraries.keep_together()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
