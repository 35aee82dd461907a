"""The code and its texts stay easy to read: what can be counted is counted here."""

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "cadlib").rglob("*.py"))
TEXTS = sorted(
    [ROOT / "README.md", *(ROOT / "docs" / "how-to").glob("*.md"), ROOT / "docs" / "tutorial.md"]
)

MAX_NODES_A_LINE = 9.0
"""Of the median function of at least three lines. structlog and httpx have 7, nanochat 10."""
MAX_LINE = 100
MAX_NODES_A_FUNCTION = 250
MAX_PACKED_A_THOUSAND_LINES = 3
MIN_COMMENT_SHARE = 0.03
"""Lines that are a comment, of all lines: they give reasons. The best of our examples have 3 to 12 %."""
MAX_WORDS_OF_A_FIRST_LINE = 12
DENIED = (
    "anew",
    "by lot",
    "for who ",
    "hence",
    "in its stead",
    "in vain",
    "learnt",
    "nobody foresaw",
    "of what ",
    "of whom",
    "thereof",
    "therein",
    "what does not fit",
    "whence",
    "wherefore",
)
"""Words and phrases that a reader with English as a second language stumbles over."""


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def docstring_lines(tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text and isinstance(node.value.value, str):
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def code_lines(text: str, tree: ast.Module) -> set[int]:
    """Return the numbers of the lines that hold code: no docstring, no comment, not empty."""
    documented = docstring_lines(tree)
    numbers = set()
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#") and number not in documented:
            numbers.add(number)
    return numbers


def size(function: ast.AST) -> int:
    """Return how many nodes the syntax tree of a function has."""
    return sum(1 for _ in ast.walk(function))


def test_the_median_function_is_open() -> None:
    densities = []
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        code = code_lines(text, tree)
        for function in functions(tree):
            end = function.end_lineno or function.lineno
            lines = sum(1 for number in range(function.lineno, end + 1) if number in code)
            if lines >= 3:
                densities.append(size(function) / lines)
    assert statistics.median(densities) <= MAX_NODES_A_LINE


def test_no_line_is_long():
    long = []
    for path in MODULES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if len(line) > MAX_LINE:
                long.append(f"{path.relative_to(ROOT)}:{number}")
    assert not long


def test_no_function_is_large() -> None:
    large = []
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        too_large = [node for node in functions(tree) if size(node) > MAX_NODES_A_FUNCTION]
        large += [f"{path.relative_to(ROOT)}: {node.name} ({size(node)})" for node in too_large]
    assert not large


def test_few_assignments_pack_several_values() -> None:
    packed = 0
    lines = 0
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        lines += len(code_lines(text, tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
                packed += isinstance(node.targets[0], ast.Tuple)
    assert 1000 * packed / lines <= MAX_PACKED_A_THOUSAND_LINES


def test_comments_give_reasons() -> None:
    comments = 0
    lines = 0
    for path in MODULES:
        for line in path.read_text(encoding="utf-8").splitlines():
            lines += 1
            comments += line.lstrip().startswith("#")
    assert comments / lines >= MIN_COMMENT_SHARE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_in_one_short_line_what_it_does(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring is not None
    first = docstring.partition("\n")[0]
    assert len(first.split()) <= MAX_WORDS_OF_A_FIRST_LINE
    assert first.endswith(".")


@pytest.mark.parametrize("path", [*MODULES, *TEXTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_denied_phrase(path: Path) -> None:
    text = path.read_text(encoding="utf-8").lower()
    for phrase in DENIED:
        assert not re.search(rf"\b{re.escape(phrase)}", text), phrase
