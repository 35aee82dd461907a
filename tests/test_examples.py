"""Every example, and the Python code in the documents, runs on synthetic lesions."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cadlib.images.synthetic import write_dataset

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "unsure_predictions.ipynb"
LESION = ROOT / "docs" / "synthetic_lesion.png"


def run(*arguments: str, folder: Path = ROOT) -> str:
    """Run Python in a folder, by default the project's, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    process = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize("name", ["README.md", "docs/tutorial.md", "docs/how-to/researchers.md"])
def test_the_python_code_of_a_document_runs(name: str, tmp_path: Path) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    code = "\n".join(blocks).replace('"mymodel"', '"isic2019"')
    # The files that the documents name.
    write_dataset(tmp_path / "isic2019", per_class=1, size_px=96)
    shutil.copy(LESION, tmp_path / "lesion.jpg")
    (tmp_path / "docs").mkdir()
    shutil.copy(LESION, tmp_path / "docs")
    run("-c", code, folder=tmp_path)


def test_predicts_an_image_and_saves_its_map(tmp_path: Path) -> None:
    output = tmp_path / "map.png"
    printed = run("examples/predict_image.py", "docs/synthetic_lesion.png", "--output", str(output))
    assert "MEL  Melanoma                  0.99" in printed
    assert output.stat().st_size > 10_000


def test_evaluates_a_model() -> None:
    printed = run("examples/evaluate_model.py")
    assert "24  usable images" in printed
    assert "AUC malignant/benign" in printed


def test_shows_what_each_threshold_means() -> None:
    [_, *rows] = run("examples/choose_threshold.py", "--malignant-share", "0.1").splitlines()
    assert [row.split()[0] for row in rows] == ["rule-out", "balanced", "rule-in"]


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    script = tmp_path / "notebook.py"
    script.write_text("\n".join(code), encoding="utf-8")
    assert "small margins:" in run(str(script))


def test_the_notebook_is_stored_without_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_script_explains_its_options(path: Path) -> None:
    assert "usage:" in run(str(path), "--help")
