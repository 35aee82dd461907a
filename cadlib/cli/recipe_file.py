"""Reads the recipe of a committee from a TOML file.

The keys of a network are the options of `cadlib train`, without the dashes in front.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from cadlib.cli.usage import UsageError
from cadlib.errors import ModelInvalid
from cadlib.files.typed_json import convert, shown
from cadlib.model.manifest import MOST_MEMBERS
from cadlib.training.config import TrainConfig

_SET_BY_RECIPE = ("folds", "split_of", "teacher", "leave_out")
"""Settings that follow from the recipe as a whole."""
_OF_SEVERAL_PROCESSES = ("devices", "nodes", "strategy")
"""A build runs in one process."""
_OF_TEACHER = ("teacher_weight", "teacher_temperature")
_SAME = ("input_px", "seed", "subset", "validation", "test")
"""Settings that all members share: their images, their folds and the input of the committee."""
_KEYS = ("folds", "split-of", "views", "member", "small")
_PLACE = re.compile(r"`\$\.?([^`]*)`")
Kind = TypeVar("Kind")


class RecipeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """A committee: one member for each fold, and a small model that learns from all.

    `split_of` is the model whose split is followed; empty for a new split. The committee reads
    `views` of each image.
    """

    folds: Annotated[int, Meta(ge=2, le=MOST_MEMBERS)]
    member: tuple[TrainConfig, ...]
    split_of: str = ""
    views: Literal[1, 8] = 8
    small: TrainConfig | None = None


class _Tables(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """The tables of the file, before the settings in them are read."""

    folds: Annotated[int, Meta(ge=2, le=MOST_MEMBERS)]
    member: tuple[dict[str, Any], ...]
    split_of: str = ""
    views: Literal[1, 8] = 8
    small: dict[str, Any] | None = None


def read_recipe_file(file: Path, name: str, new_split: Path) -> RecipeFile:
    """Read a recipe of the committee `name`, whose members are in the order of their folds.

    Without `split-of`, the members follow the split in the file `new_split`. Raise UsageError for a
    file that cannot be read, an unknown key, a value that does not fit, and a missing fold.
    """
    raw = _read_toml(file)
    tables = _convert(raw, _Tables, file)
    values = {**raw, "member": _members(tables, new_split, file)}
    if tables.small is not None:
        settings = _settings(tables.small, "small", ("fold", *_SET_BY_RECIPE), file)
        values["small"] = {**settings, "teacher": name}
    recipe = _convert(values, RecipeFile, file)
    in_order = sorted(recipe.member, key=lambda member: member.fold)
    _check_folds(in_order, recipe.folds, file)
    _check_same(in_order, file)
    return msgspec.structs.replace(recipe, member=tuple(in_order))


def _read_toml(file: Path) -> dict[str, Any]:
    """Return the content of a file; raise UsageError where it cannot be read or has other keys."""
    content = _parse_toml(file)
    for key in content:
        if key not in _KEYS:
            raise UsageError(
                f"Expected one of the keys {', '.join(_KEYS)} in {file}, but got {key!r}."
            )
    return content


def _parse_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"Expected a recipe in {file}, but it cannot be read: {error.strerror or error}."
        ) from error
    except ValueError as error:
        raise UsageError(
            f"Expected {file} to hold TOML, but it cannot be read: {error}. Correct the file."
        ) from error


def _members(tables: _Tables, new_split: Path, file: Path) -> list[dict[str, Any]]:
    """Return all settings of each member, by their names in TrainConfig."""
    split_of = tables.split_of or str(new_split)
    members = []
    for number, table in enumerate(tables.member):
        settings = _member_settings(table, f"member[{number}]", tables.folds, file)
        members.append({**settings, "folds": tables.folds, "split_of": split_of})
    return members


def _member_settings(
    table: Mapping[str, Any],
    place: str,
    n_folds: int,
    file: Path,
) -> dict[str, Any]:
    """Return the settings of a member; raise UsageError where its fold is missing or none."""
    settings = _settings(table, place, (*_OF_TEACHER, *_SET_BY_RECIPE), file)
    fold = settings.get("fold")
    expected = f"Expected `{place}.fold` in {file} to be a whole number from 0 to {n_folds - 1}"
    if fold is None:
        raise UsageError(f"{expected}, but it is missing.")
    # The type is checked with those of all other settings.
    if isinstance(fold, int) and not 0 <= fold < n_folds:
        raise UsageError(f"{expected}, but got {fold}.")
    return settings


def _settings(
    table: Mapping[str, Any],
    place: str,
    refused: Sequence[str],
    file: Path,
) -> dict[str, Any]:
    """Return the settings of a table by their names in TrainConfig.

    Raise UsageError for a key that is no setting, and for one that is `refused` here.
    """
    settings = {}
    names = {setting.name for setting in fields(TrainConfig)}
    allowed = names.difference(refused, _OF_SEVERAL_PROCESSES)
    options = sorted(name.replace("_", "-") for name in allowed)
    for key, value in table.items():
        name = key.replace("-", "_")
        if key not in options:
            raise UsageError(_wrong_key(key, place, options, file, is_setting=name in names))
        settings[name] = value
    return settings


def _wrong_key(
    key: str, place: str, options: Sequence[str], file: Path, *, is_setting: bool
) -> str:
    """Return the message for a key that a table cannot have."""
    similar = get_close_matches(key, options, n=1)
    # A name in the spelling of Python is one that the table can have.
    is_misspelt = key.replace("_", "-") in options
    if is_setting and not is_misspelt:
        advice = "Leave it out: the recipe as a whole decides it."
    elif similar:
        advice = f"Did you mean {similar[0]}?"
    else:
        advice = f"The settings are {', '.join(options)}."
    return (
        f"Expected a setting of `cadlib train` that this table can have at `{place}` in {file}, "
        f"but got {key!r}. {advice}"
    )


def _convert(values: Mapping[str, Any], kind: type[Kind], file: Path) -> Kind:
    """Return the content of a file as a type; raise UsageError with the key that is wrong."""
    try:
        return convert(values, kind, file)
    except ModelInvalid as error:
        # Keys are named as they are in the file.
        in_file = _PLACE.sub(_named_as_in_file, str(error))
        text = in_file.replace("Restore the file.", "Correct the file.").replace(",,", ",")
        raise UsageError(text) from None


def _named_as_in_file(place: re.Match[str]) -> str:
    key = place[1].replace("_", "-")
    return f"`{key}`"


def _check_folds(members: Sequence[TrainConfig], n_folds: int, file: Path) -> None:
    """Raise UsageError unless there is one member for each fold."""
    folds = [member.fold for member in members]
    if folds == list(range(n_folds)):
        return
    missing = sorted(set(range(n_folds)).difference(folds))
    got = ", ".join(map(str, folds)) or "none"
    names = ", ".join(map(str, missing))
    problem = f"fold {names} is missing" if missing else "a fold has two members"
    raise UsageError(
        f"Expected one table `member` for each of the {n_folds} folds in {file}, "
        f"but got the folds {got}: {problem}."
    )


def _check_same(members: Sequence[TrainConfig], file: Path) -> None:
    """Raise UsageError where members differ in a setting that they share."""
    first = members[0]
    for member in members[1:]:
        for name in _SAME:
            value = getattr(member, name)
            expected = getattr(first, name)
            if value != expected:
                option = name.replace("_", "-")
                raise UsageError(
                    f"Expected the same `{option}` in all members in {file}, but fold {first.fold} "
                    f"has {shown(expected)} and fold {member.fold} has {shown(value)}."
                )
