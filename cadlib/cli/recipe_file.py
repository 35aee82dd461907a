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

from cadlib.cli.settings import OF_SEVERAL_PROCESSES
from cadlib.cli.usage import UsageError
from cadlib.errors import ModelInvalid
from cadlib.files.typed_json import convert, shown
from cadlib.model.manifest import MOST_MEMBERS
from cadlib.training.config import TrainConfig

_SET_BY_RECIPE = ("folds", "split_of", "teacher", "leave_out")
"""Settings that follow from the recipe as a whole."""
_OF_TEACHER = ("teacher_weight", "teacher_temperature")
_SAME = ("input_px", "seed", "subset", "validation", "test")
"""Settings that all members share: their images, their folds and the input of the committee."""
_KEY_IN_MESSAGE = re.compile(r"`(?:\$\.?)?([^`]*)`")
Kind = TypeVar("Kind")


class _Committee(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True
):
    """The keys of the file beside its tables."""

    folds: Annotated[int, Meta(ge=2, le=MOST_MEMBERS)]
    split_of: str = ""
    views: Literal[1, 8] = 8


class RecipeFile(_Committee, frozen=True, kw_only=True):
    """A committee: one member for each fold, and a small model that learns from all.

    `split_of` is the model whose split is followed; empty for a new split. The committee reads
    `views` of each image.
    """

    member: tuple[TrainConfig, ...]
    small: TrainConfig | None = None


class _Tables(_Committee, frozen=True, kw_only=True):
    """The content of the file, before the settings in its tables are read."""

    member: tuple[dict[str, Any], ...]
    small: dict[str, Any] | None = None


_KEYS = RecipeFile.__struct_encode_fields__


def read_recipe_file(file: Path, name: str, new_split: Path) -> RecipeFile:
    """Read a recipe of the committee `name`, whose members are in the order of their folds.

    Without `split-of`, the members follow the split in the file `new_split`. Raise UsageError for a
    file that cannot be read, an unknown key, a value that does not fit, and a missing fold.
    """
    raw = _read_toml(file)
    tables = _convert(raw, _Tables, file)
    # The settings replace the tables, so that a wrong value is named by its place in the file.
    raw["member"] = _members(tables, new_split, file)
    if tables.small is not None:
        raw["small"] = _small_settings(tables.small, name, file)
    recipe = _convert(raw, RecipeFile, file)
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
        place = f"member[{number}]"
        settings = _member_settings(table, place, tables.folds, file)
        settings["folds"] = tables.folds
        settings["split_of"] = split_of
        members.append(settings)
    return members


def _member_settings(
    table: Mapping[str, Any],
    place: str,
    n_folds: int,
    file: Path,
) -> dict[str, Any]:
    """Return the settings of a member; raise UsageError where its fold is missing or none."""
    refused = (*_OF_TEACHER, *_SET_BY_RECIPE)
    settings = _settings(table, place, refused, file)
    fold = settings.get("fold")
    expected = f"Expected `{place}.fold` in {file} to be a whole number from 0 to {n_folds - 1}"
    if fold is None:
        raise UsageError(f"{expected}, but it is missing.")
    # The type is checked with those of all other settings.
    is_outside = isinstance(fold, int) and not 0 <= fold < n_folds
    if is_outside:
        raise UsageError(f"{expected}, but got {fold}.")
    return settings


def _small_settings(table: Mapping[str, Any], teacher: str, file: Path) -> dict[str, Any]:
    """Return all settings of the small model, by their names in TrainConfig."""
    refused = ("fold", *_SET_BY_RECIPE)
    settings = _settings(table, "small", refused, file)
    settings["teacher"] = teacher
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
    allowed = names.difference(refused, OF_SEVERAL_PROCESSES)
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
        in_file = _KEY_IN_MESSAGE.sub(_named_as_in_file, str(error))
        text = in_file.replace("Restore the file.", "Correct the file.")
        raise UsageError(text) from None


def _named_as_in_file(match: re.Match[str]) -> str:
    key = match[1].replace("_", "-")
    return f"`{key}`"


def _check_folds(members: Sequence[TrainConfig], n_folds: int, file: Path) -> None:
    """Raise UsageError unless there is one member for each fold."""
    folds = [member.fold for member in members]
    if folds == list(range(n_folds)):
        return
    got = ", ".join(map(str, folds)) or "none"
    problem = "a fold has two members"
    missing = [str(fold) for fold in range(n_folds) if fold not in folds]
    if missing:
        names = ", ".join(missing)
        problem = f"fold {names} is missing"
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
