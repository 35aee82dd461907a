"""Measures the time to install the light and the full environment, and their size.

    python benchmarks/install.py [--only light|full]

Each is a new virtual environment in a temporary folder: the light one has the wheel of the package,
the full one what requirements-dev.txt lists. The time includes the downloads, or pip's cache where
it has the packages.
"""

import argparse
import subprocess
import sys
import time
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]


def size_bytes(folder: Path) -> int:
    """Return the space that the files of a folder take on disk."""
    total = 0
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            # A block has 512 bytes on every system.
            total += path.stat().st_blocks * 512
    return total


def measure(name: str, arguments: list[str]) -> None:
    """Install into a new environment; print time and size."""
    with TemporaryDirectory() as place:
        folder = Path(place, name)
        began = time.monotonic()
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-qq"]
        subprocess.run([*pip, "--disable-pip-version-check", *arguments], check=True)
        seconds = time.monotonic() - began
        size_gb = size_bytes(folder) / 1e9
        print(f"{name:<8}{seconds:7.0f} s{size_gb:8.1f} GB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=("light", "full"), help="measure one of the two")
    options = parser.parse_args()
    with TemporaryDirectory() as place:
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place]
        subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        [wheel] = Path(place).glob("*.whl")
        if options.only != "full":
            measure("light", [str(wheel)])
        if options.only != "light":
            measure("full", ["--requirement", str(ROOT / "requirements-dev.txt")])


if __name__ == "__main__":
    main()
