"""The package builds as a wheel that works from any folder, and its requirements are listed once in each place."""

import http.client
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest

from cadlib import __version__
from cadlib.__main__ import main

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def requirements(file: str) -> set[str]:
    """Return the requirements of a file, without those of the files it includes."""
    lines = set()
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        requirement = line.partition("#")[0].strip()
        if requirement and not requirement.startswith("-r"):
            lines.add(requirement)
    return lines


def without_own(names: list[str]) -> set[str]:
    """Return the requirements of an extra, without the extras of the package itself."""
    return {name for name in names if not name.startswith("cadlib[")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [file] = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds the package as pip installs it."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target"]
    subprocess.run([*command, str(folder), str(wheel)], check=True, capture_output=True)
    return folder


def run_installed(
    installed: Path, folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CADLIB_")
    }
    environment["PYTHONPATH"] = str(installed)
    environment["XDG_DATA_HOME"] = str(folder / "data")
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_requirement_files_list_the_dependencies_of_the_package() -> None:
    full = set(PROJECT["dependencies"])
    for extra in ("explain", "dicom", "postgresql"):
        full |= set(EXTRAS[extra])
    assert requirements("requirements.txt") == full
    assert requirements("requirements-train.txt") == without_own(EXTRAS["train"])
    assert requirements("requirements-dev.txt") == without_own(EXTRAS["dev"])


def test_the_light_package_needs_no_torch() -> None:
    names = {re.split(r"[<>=]", requirement)[0] for requirement in PROJECT["dependencies"]}
    assert names.isdisjoint({"torch", "torchvision", "timm", "grad-cam", "lightning-fabric"})


def test_a_wheel_holds_the_app_its_pages_and_the_shipped_model(wheel: Path) -> None:
    assert wheel.name.startswith(f"cadlib-{__version__}-")
    names = set(zipfile.ZipFile(wheel).namelist())
    for file in ("app.py", "menu.py", ".streamlit/config.toml"):
        assert f"cadlib/bundle/{file}" in names
    for page in (ROOT / "pages").glob("*.py"):
        assert f"cadlib/bundle/pages/{page.name}" in names
    for file in (ROOT / "models" / "isic2019").iterdir():
        assert f"cadlib/bundle/models/isic2019/{file.name}" in names
    templates = [path.relative_to(ROOT) for path in (ROOT / "cadlib").rglob("*.jinja")]
    assert Path("cadlib/model/card/card.md.jinja") in templates
    for template in templates:
        assert template.as_posix() in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_an_installed_package_predicts_from_another_folder(installed: Path, tmp_path: Path) -> None:
    image = str(ROOT / "docs" / "synthetic_lesion.png")
    process = run_installed(installed, tmp_path, "-m", "cadlib", "predict", image)
    assert process.returncode == 0, process.stderr
    assert "Melanoma" in process.stdout


def test_an_installed_package_renders_the_card_of_the_shipped_model(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "from cadlib.model import card, metrics_file; from cadlib.model.record import *; "
        "folder = find_model('isic2019'); metrics = metrics_file.read(folder); "
        "print(card.render(read_record(folder), metrics) == (folder / CARD_FILE).read_text('utf-8'))"
    )
    process = run_installed(installed, tmp_path, "-c", code)
    assert process.stdout == "True\n", process.stderr


def test_an_installed_package_keeps_own_models_apart_from_the_shipped_one(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "import cadlib; from cadlib.model.record import find_model, list_models, models_dir; "
        "print(cadlib.__file__, models_dir(), find_model('isic2019'), *list_models(), sep='\\n')"
    )
    process = run_installed(installed, tmp_path, "-c", code)
    package, own, shipped, *names = process.stdout.splitlines()
    assert Path(package).is_relative_to(installed)
    assert Path(own) == tmp_path / "data" / "cadlib" / "models"
    assert Path(shipped).is_relative_to(installed)
    assert names == ["isic2019"]


def test_an_installed_app_starts_with_its_own_settings(installed: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cadlib", "app", "--port", str(port), "--no-browser"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            wait_for(port)
            assert status(port, "localhost") == 200
            assert status(port, "evil.example") == 421  # allowedHosts of .streamlit/config.toml
        finally:
            server.terminate()


def wait_for(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            status(port, "localhost")
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail("The server did not answer within a minute.")


def status(port: int, host: str) -> int:
    """Return the status of an answer to a request for the health of the server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/_stcore/health", headers={"Host": f"{host}:{port}"})
    status_code = connection.getresponse().status
    connection.close()
    return status_code


@pytest.mark.parametrize("port", ["0", "65536"])
def test_rejects_a_port_that_cannot_be(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "--port", port]) == 2
    assert "Expected --port from 1 to 65535" in capsys.readouterr().err
