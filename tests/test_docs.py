"""The documents name files and constants that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = [path.parent for path in (ROOT / "cadlib").rglob("__init__.py")]


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`([\w./]+(?:/|\.py|\.md|\.toml))`", ARCHITECTURE)))
)
def test_the_architecture_names_files_that_exist(name):
    assert any((folder / name).exists() for folder in (ROOT, *PACKAGES)), name


@pytest.mark.parametrize("row", re.findall(r"^\|.*`[A-Z_]{4,}`.*$", ARCHITECTURE, re.MULTILINE))
def test_the_architecture_names_constants_where_they_are(row):
    code = ""
    for name in re.findall(r"`([\w./]+(?:/|\.py))`", row):
        path = ROOT / "cadlib" / name
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            code += file.read_text(encoding="utf-8") if file.exists() else ""
    for constant in re.findall(r"`([A-Z_]{4,})`", row):
        if not constant.startswith("CADLIB"):
            assert re.search(rf"^(?:\w+, )?{constant}\b", code, re.MULTILINE), constant
