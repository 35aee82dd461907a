"""Rules about the code that no other tool checks. `lint-imports` checks which package may import which."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cadlib.taxonomy import CODES

ROOT = Path(__file__).parents[1]
PAGES = ("diagnose", "work_list", "saliency", "dataset", "performance", "training")
MAX_PAGE_LINES = 150

WITHOUT_TORCH = (
    "cadlib.assessment",
    "cadlib.cli",
    "cadlib.evaluation.evaluate",
    "cadlib.label_review",
    "cadlib.report",
    "cadlib.server",
    "cadlib.training.monitor",
)


def page(name: str) -> Path:
    return ROOT / "pages" / f"{name}.py"


def imported_packages(path: Path) -> set[str]:
    """Return the name of each package that a file imports, at its top or inside a function."""
    packages = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, (
                "Expected `from cadlib import …`, not a relative import."
            )
            packages.add(node.module.partition(".")[0])
    return packages


def test_an_answer_needs_no_torch():
    code = f"import sys, {', '.join(WITHOUT_TORCH)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_an_answer_needs_no_slow_library():
    # Each takes a second or 100 MB at the start of the app or of `cadlib predict`.
    code = """
import sys
from cadlib.assessment import assess
from cadlib.images.synthetic import demo_lesions
from cadlib.model.model import Model

assess(Model.load("isic2019"), demo_lesions()[0].png())
print(*sorted({"pandas", "scipy", "torch"} & sys.modules.keys()))
"""
    command = [sys.executable, "-c", code]
    answered = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert answered.stdout.split() == []


def test_the_pages_are_the_known_ones():
    assert {path.stem for path in (ROOT / "pages").glob("*.py")} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_short_and_leaves_arrays_to_cadlib(name):
    lines = page(name).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_PAGE_LINES
    assert imported_packages(page(name)) <= {"cadlib", "streamlit"} | sys.stdlib_module_names


def test_streamlit_draws_no_string_that_stands_alone():
    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert settings["runner"]["magicEnabled"] is False


@pytest.mark.parametrize("name", PAGES)
def test_no_string_stands_alone_in_a_page(name):
    module = ast.parse(page(name).read_text(encoding="utf-8"))
    for node in module.body[1:]:
        is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert not is_constant, f"line {node.lineno}: Streamlit would draw it; make it a comment"


def test_the_app_imports_no_page():
    assert imported_packages(ROOT / "app.py") <= {"cadlib", "streamlit"} | sys.stdlib_module_names


def test_the_menu_has_no_logic():
    tree = ast.parse((ROOT / "menu.py").read_text(encoding="utf-8"))
    assert imported_packages(ROOT / "menu.py") <= {"cadlib", "streamlit"}
    assert not [
        node for node in ast.walk(tree) if isinstance(node, (ast.If, ast.For, ast.While, ast.Try))
    ]


def test_only_taxonomy_lists_the_diagnoses():
    for path in (
        ROOT / "app.py",
        ROOT / "menu.py",
        *map(page, PAGES),
        *(ROOT / "cadlib").rglob("*.py"),
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
                codes = {item.value for item in node.elts if isinstance(item, ast.Constant)} & set(
                    CODES
                )
                assert len(codes) < len(CODES), (
                    f"{path}, line {node.lineno} lists the codes; take taxonomy.CODES"
                )
