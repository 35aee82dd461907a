"""Reads JSON of a stated type and names the place that is wrong."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cadlib.errors import ModelInvalid

Kind = TypeVar("Kind")

_SHOWN = 60
"""Characters of a wrong value in a message."""
_MOST_DIGITS = 300
"""A whole number of more digits is beyond every float."""
_WORDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "text",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
_PLACE = re.compile(r" - at `(?P<path>\$.*)`\Z", re.DOTALL)
_KEY = re.compile(
    r"Object (?P<problem>missing required|contains unknown) field `(?P<key>.*)`\Z", re.DOTALL
)
_RULE = re.compile(r"`(?P<key>\w+)` has to be (?P<expected>.*)\Z", re.DOTALL)
"""How the `__post_init__` of a type names a rule that its fields break."""
_TYPES = re.compile(r"`([a-z |]+)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


class _OddNumber(str):
    """A number of a JSON file that no float can hold, as it is written."""

    __slots__ = ()


def parse(data: bytes, path: Path) -> Any:
    """Return the JSON value of a file's bytes; raise ModelInvalid and say where it is broken."""
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise ModelInvalid(
            f"Expected {path} to hold a few levels of JSON, but it is nested too deeply to read. Restore the file."
        ) from None
    except (msgspec.MsgspecError, ValueError) as error:
        if odd := _odd_number(data):
            raise ModelInvalid(
                _wrong(path, f"$.{odd[0]}", "a finite number", shown(_OddNumber(odd[1])))
            ) from None
        reason = one_line(_in_line(data, str(error)))
        raise ModelInvalid(
            f"Expected {path} to hold JSON, but it cannot be read: {reason}. Restore the file."
        ) from None


def convert(raw: Any, kind: type[Kind], path: Path) -> Kind:
    """Return a JSON value as a typed object; raise ModelInvalid and name the field that does not fit."""
    try:
        return msgspec.convert(raw, kind, strict=True)
    except RecursionError:
        raise ModelInvalid(f"Expected {path} to be nested less deeply. Restore the file.") from None
    except msgspec.ValidationError as error:
        raise ModelInvalid(_explained(str(error), raw, path)) from None


def one_line(text: str, most: int = 300) -> str:
    """Return text that another library or a file gave as one line of a message, cut where it is long."""
    line = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(line.split())
    return line if len(line) <= most else f"{line[:most]}…"


def shown(value: Any) -> str:
    """Return a value as short text of one line, for a message."""
    text = value if isinstance(value, _OddNumber) else _as_json(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=True)
    except (
        ValueError,
        RecursionError,
    ):  # digits beyond what Python prints, or nesting beyond its depth
        return f"a value of type {type(value).__name__} that is too long to show"


def _explained(message: str, raw: Any, path: Path) -> str:
    place = "$"
    if match := _PLACE.search(message):
        place = match["path"]
        message = message[: match.start()]
    if match := _KEY.match(message):
        if match["problem"] == "missing required":
            return (
                f"Expected `{place}.{match['key']}` in {path}, but it is missing; nothing is assumed in its place. "
                "Restore the file."
            )
        key = one_line(match["key"], _SHOWN)
        return f"Expected no key `{place}.{key}` in {path}: this version does not know it. Restore the file."
    if match := _RULE.match(message):
        place = f"{place}.{match['key']}"
        return _wrong(path, place, match["expected"], _at(raw, place))
    if message == "Number out of range":
        return _wrong(path, place, "a finite number", _at(raw, place))
    expected, comma, _ = message.removeprefix("Expected ").partition(", got ")
    if not comma and not message.startswith("Expected "):
        return f"Expected `{place}` in {path} to be a known value, but found {_at(raw, place)}: {one_line(message)}."
    return _wrong(path, place, _TYPES.sub(_in_words, expected), _at(raw, place))


def _wrong(path: Path, place: str, expected: str, found: str) -> str:
    return f"Expected `{one_line(place)}` in {path} to be {expected}, but found {found}. Restore the file."


def _in_words(match: re.Match[str]) -> str:
    return " or ".join(_WORDS.get(name, name) for name in match[1].split(" | "))


def _at(raw: Any, place: str) -> str:
    """Return the value at a path of an error message, shown; the path may end in `[...]`, for any key."""
    value = raw
    for step in _STEP.finditer(place):
        key: Any = step[1] if step[1] is not None else int(step[2])
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return "another value"
    return shown(value) if "[...]" not in place else "another value"


def _odd_number(data: bytes) -> tuple[str, str] | None:
    """Return path and text of the first number that is not finite, where Python's more lenient reader finds one."""
    try:
        raw = json.loads(data, parse_constant=_OddNumber, parse_int=_whole, parse_float=_real)
    except (ValueError, RecursionError):
        return None
    for path, value in leaves(raw):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, _OddNumber):
                return path, item
    return None


def _whole(text: str) -> int | _OddNumber:
    return _OddNumber(text) if len(text) > _MOST_DIGITS else int(text)


def _real(text: str) -> float | _OddNumber:
    value = float(text)
    return value if math.isfinite(value) else _OddNumber(text)


def _in_line(data: bytes, message: str) -> str:
    """Replace the byte that a message of msgspec counts by a line, which an editor shows."""
    match = re.search(r"\(byte (\d+)\)", message)
    if not match:
        return message
    line = data.count(b"\n", 0, int(match[1])) + 1
    return f"{message[: match.start()]}in line {line}"


def leaves(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of everything in a JSON value that is not made of parts.

    A list of plain values is one leaf, and so is an empty object or list.
    """
    # A stack instead of recursion: the depth of a file is not ours to trust.
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Mapping) and value:
            waiting.extend(
                (f"{path}.{key}" if path else str(key), value[key]) for key in reversed(value)
            )
        elif isinstance(value, list | tuple) and any(
            isinstance(item, Mapping | list | tuple) for item in value
        ):
            waiting.extend(
                (f"{path}[{index}]", value[index]) for index in reversed(range(len(value)))
            )
        else:
            yield path, value


def json_text(content: Mapping[str, Any]) -> str:
    """Return a JSON object as the text of a file of a model folder."""
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
