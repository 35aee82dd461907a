"""Every command that a message recommends is complete: it can be copied, and only its placeholders replaced."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from cadlib import command_hints
from cadlib.__main__ import main
from cadlib.cli.command_line import parse
from cadlib.cli.usage import UsageError
from cadlib.model.record import METRICS_FILE, read_json, read_record
from tests.model_folders import change_file, change_record

pytestmark = pytest.mark.usefixtures("few_draws")

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    [
        *(ROOT / "cadlib").rglob("*.py"),
        *(ROOT / "cadlib").rglob("*.jinja"),
        *(ROOT / "pages").glob("*.py"),
    ]
)
COMMAND = re.compile(r"python -m cadlib [a-z][^`\n]*")
HINTS = {
    "evaluate": command_hints.evaluate_into("isic2019"),
    "evaluate the test split": command_hints.evaluate_test_into("isic2019"),
    "evaluate a subset": command_hints.evaluate_subset("missed melanomas"),
    "train a subset": command_hints.train_subset("missed melanomas"),
    "train": command_hints.train(),
    "audit": command_hints.audit_into("isic2019"),
    "index": command_hints.index("isic2019"),
    "robustness": command_hints.robustness_into("isic2019"),
    "saliency": command_hints.saliency_into("isic2019"),
    "across": command_hints.across_into("isic2019"),
}
NAMED_ONLY = {
    "python -m cadlib train": "cadlib/model/card/card.md.jinja",  # how the model was made, not what to do
    "python -m cadlib report": "cadlib/cli/report.py",  # its options follow from those given
}


def texts(path: Path) -> list[str]:
    """Return the strings of a source without its docstrings; a value that is filled in is a NAME."""
    if path.suffix == ".jinja":
        return [re.sub(r"\{\{.*?\}\}", "NAME", path.read_text(encoding="utf-8"))]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    parts = {
        part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
    }
    strings = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            strings.append("".join(_text(part) for part in node.values))
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node not in docstrings | parts
        ):
            strings.append(node.value)
    return strings


def _text(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "NAME"


def written_out() -> list[tuple[str, str]]:
    """Return every command in a message, with its file."""
    return [
        (command.strip(), str(path.relative_to(ROOT)))
        for path in SOURCES
        if path.name != "command_hints.py"
        for text in texts(path)
        for command in COMMAND.findall(text)
    ]


def documented_commands() -> list[str]:
    """Return every command in README.md and the how-to pages."""
    commands = []
    for path in (
        ROOT / "README.md",
        ROOT / "docs" / "tutorial.md",
        *(ROOT / "docs" / "how-to").glob("*.md"),
    ):
        blocks = re.findall(r"```sh\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for line in "\n".join(blocks).splitlines():
            command = re.sub(r"^(\.venv/bin/)?(python -m )?cadlib ", "python -m cadlib ", line)
            if command.startswith("python -m cadlib "):
                commands.append(command.partition(" # ")[0].strip())
    return sorted(set(commands))


def arguments(command: str) -> list[str]:
    return shlex.split(command)[3:]


@pytest.mark.parametrize(("command", "source"), written_out())
def test_a_command_in_a_message_has_every_option_it_requires(command, source):
    if NAMED_ONLY.get(command) == source:
        return
    parse(arguments(command))


@pytest.mark.parametrize("command", [*HINTS.values(), *documented_commands()])
def test_a_hint_and_a_command_of_the_readme_have_every_option_they_require(command):
    parse(arguments(command))


def test_the_search_for_commands_finds_those_that_are_there():
    assert len(written_out()) >= 5
    assert ("python -m cadlib download --to DIR", "pages/dataset.py") in written_out()
    assert ("python -m cadlib train", "cadlib/model/card/card.md.jinja") in written_out()
    assert len(documented_commands()) >= 20


@pytest.mark.parametrize(
    "name", [name for name in HINTS if "train" not in name and "across" not in name]
)
def test_a_hint_has_only_options_that_its_command_accepts(name, tmp_path, capsys):
    # An empty folder is no data set. So the error is about the data; it is no usage error.
    from cadlib.data.subsets import Subset, save_subset

    save_subset(Subset("missed melanomas", "drawn", ("ISIC_0000000",), "by hand"))
    filled = [str(tmp_path) if word == "DIR" else word for word in arguments(HINTS[name])]
    filled = ["isic2019" if word == "NAME" else word for word in filled]
    assert main(filled) == 1
    assert "--help" not in capsys.readouterr().err


def test_an_incomplete_command_is_refused(tmp_path):
    command = parse(
        arguments("python -m cadlib evaluate --model isic2019 --into-model --output DIR")
    )
    with pytest.raises(UsageError):
        command.run()
    with pytest.raises(UsageError, match="Missing option '--output'"):
        parse(arguments("python -m cadlib evaluate --split validation --into-model"))


def test_a_name_with_spaces_or_quotes_stays_one_word():
    command = command_hints.evaluate_subset('the "bad" ones; rm -rf')
    assert 'the "bad" ones; rm -rf' in shlex.split(command)


@pytest.fixture
def drawn_data(drawn_model_folder, drawn_dataset):
    """Return a model, and the folder of the drawn images that its split names."""
    counts = {"train": 16, "validation": 8, "test": 8}
    change_record(
        drawn_model_folder, lambda raw: raw["training"].update(images=counts), golden=False
    )
    return drawn_model_folder, Path(drawn_dataset.table["path"].iloc[0]).parents[1]


def run_hint(hint: str, data: Path, output: Path) -> int:
    """Run a hint after its placeholders were replaced: the data first, then the folder for results."""
    folders = iter([str(data), str(output)])
    return main(
        [next(folders) if word == command_hints.FOLDER else word for word in arguments(hint)]
    )


def test_the_hint_to_evaluate_saves_results_in_the_model(drawn_data, tmp_path):
    folder, data = drawn_data
    change_file(folder, METRICS_FILE, None)
    assert run_hint(command_hints.evaluate_into(str(folder)), data, tmp_path / "out") == 0
    assert read_json(folder / METRICS_FILE)["data"]["split"] == "validation"
    assert (tmp_path / "out" / "predictions.csv").exists()


def test_the_hint_to_audit_ends_the_warning(drawn_data, tmp_path):
    folder, data = drawn_data
    assert "not audited" in read_record(folder).validation_claim
    assert run_hint(command_hints.audit_into(str(folder)), data, tmp_path) == 0
    assert read_record(folder).audit_passed
