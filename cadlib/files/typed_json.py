"""Reads typed JSON and names the place of an error."""

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
_RULE = re.compile(
    r"(?:Expected )?`(?P<key>\w+)` (?:has )?to be (?P<expected>.*?)(?:,? but got .*)?\Z", re.DOTALL
)
"""The forms in which the `__post_init__` of a type names a broken rule of a field."""
_TYPES = re.compile(r"`([a-z |]+)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


class _OddNumber(str):
    """A number of a JSON file that no float can hold, as written there."""

    __slots__ = ()


def parse(data: bytes, path: Path) -> Any:
    """Return the JSON value of a file's bytes; raise ModelInvalid with the place of an error."""
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise ModelInvalid(
            f"Expected {path} to hold a few levels of JSON, but it is nested too deeply to read. "
            "Restore the file."
        ) from None
    except (msgspec.MsgspecError, ValueError) as error:
        message = _unreadable(data, str(error), path)
        raise ModelInvalid(message) from None


def _unreadable(data: bytes, reason: str, path: Path) -> str:
    """Explain why a file's bytes are not valid JSON."""
    odd = _odd_number(data)
    if odd:
        place, number = odd
        return _wrong(
            path,
            f"$.{place}",
            "a finite number",
            shown(_OddNumber(number)),
        )
    short_reason = one_line(_in_line(data, reason))
    return f"Expected {path} to hold JSON, but it cannot be read: {short_reason}. Restore the file."


def convert(raw: Any, kind: type[Kind], path: Path) -> Kind:
    """Return a JSON value as a typed object; raise ModelInvalid with the field that is wrong."""
    try:
        return msgspec.convert(raw, kind, strict=True)
    except RecursionError:
        raise ModelInvalid(f"Expected {path} to be nested less deeply. Restore the file.") from None
    except msgspec.ValidationError as error:
        # An error that the `__post_init__` of a type has raised, not msgspec.
        is_rule = error.__cause__ is not None
        explanation = _explained(str(error), raw, path, is_rule)
        raise ModelInvalid(explanation) from None


def one_line(text: str, most: int = 300) -> str:
    """Return text of another library or a file as one line of a message, cut where it is long."""
    # Control characters of a file could change the terminal.
    printable = []
    for character in text:
        is_printable = character.isprintable()
        printable.append(character if is_printable else " ")
    words = "".join(printable).split()
    line = " ".join(words)
    if len(line) <= most:
        return line
    return f"{line[:most]}…"


def shown(value: Any) -> str:
    """Return a value as short text of one line, for a message."""
    if isinstance(value, _OddNumber):
        # No float can hold the number, so its text in the file is shown.
        text: str = value
    else:
        text = _as_json(value)
    if len(text) <= _SHOWN:
        return text
    return f"{text[:_SHOWN]}…"


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=True)
    except (ValueError, RecursionError):
        # A number has more digits than Python prints, or the nesting is too deep for it.
        return f"a value of type {type(value).__name__} that is too long to show"


def _explained(message: str, raw: Any, path: Path, is_rule: bool) -> str:
    """Turn a message of msgspec into one that names the place and the value."""
    place = "$"
    place_match = _PLACE.search(message)
    if place_match:
        place = place_match["path"]
        message = message[: place_match.start()]
    key_match = _KEY.match(message)
    if key_match:
        return _wrong_key(path, place, key_match)
    rule_match = _RULE.match(message)
    if rule_match:
        place = f"{place}.{rule_match['key']}"
        return _wrong(path, place, rule_match["expected"], _at(raw, place))
    if is_rule:
        return f"{path} holds a value at `{place}` that does not fit: {one_line(message)}"
    if message == "Number out of range":
        return _wrong(path, place, "a finite number", _at(raw, place))
    return _wrong_value(path, place, message, _at(raw, place))


def _wrong_key(path: Path, place: str, match: re.Match[str]) -> str:
    if match["problem"] == "missing required":
        return (
            f"Expected `{place}.{match['key']}` in {path}, but it is missing; "
            "nothing is assumed in its place. Restore the file."
        )
    key = one_line(match["key"], _SHOWN)
    return (
        f"Expected no key `{place}.{key}` in {path}: this version does not know it. "
        "Restore the file."
    )


def _wrong_value(path: Path, place: str, message: str, value: str) -> str:
    without_start = message.removeprefix("Expected ")
    expected, comma, _ = without_start.partition(", got ")
    is_expectation = comma or message.startswith("Expected ")
    if not is_expectation:
        reason = one_line(message)
        return f"Expected `{place}` in {path} to be a known value, but found {value}: {reason}."
    expected_words = _TYPES.sub(_in_words, expected)
    return _wrong(path, place, expected_words, value)


def _wrong(path: Path, place: str, expected: str, value: str) -> str:
    return (
        f"Expected `{one_line(place)}` in {path} to be {expected}, but found {value}. "
        "Restore the file."
    )


def _in_words(match: re.Match[str]) -> str:
    names = match[1].split(" | ")
    words = [_WORDS.get(name, name) for name in names]
    return " or ".join(words)


def _at(raw: Any, place: str) -> str:
    """Return the value at a path of an error message as text; `[...]` stands for any key."""
    value = raw
    for step in _STEP.finditer(place):
        name, index = step.groups()
        key: Any = name
        if name is None:
            key = int(index)
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return "another value"
    if "[...]" in place:
        return "another value"
    return shown(value)


def _odd_number(data: bytes) -> tuple[str, str] | None:
    """Return path and text of the first number that is not finite, None without one.

    Python's reader of JSON is more lenient and accepts such numbers.
    """
    try:
        raw = json.loads(
            data,
            parse_constant=_OddNumber,
            parse_int=_whole,
            parse_float=_real,
        )
    except (ValueError, RecursionError):
        return None
    for path, value in leaves(raw):
        # A list of plain values is one leaf.
        items = value if isinstance(value, list) else [value]
        for item in items:
            if isinstance(item, _OddNumber):
                return path, item
    return None


def _whole(text: str) -> int | _OddNumber:
    if len(text) > _MOST_DIGITS:
        return _OddNumber(text)
    return int(text)


def _real(text: str) -> float | _OddNumber:
    value = float(text)
    if math.isfinite(value):
        return value
    return _OddNumber(text)


def _in_line(data: bytes, message: str) -> str:
    """Replace the byte position in a message of msgspec by a line, which an editor shows."""
    match = re.search(r"\(byte (\d+)\)", message)
    if not match:
        return message
    position = int(match[1])
    line_ends = data.count(b"\n", 0, position)
    line = line_ends + 1
    start = match.start()
    beginning = message[:start]
    return f"{beginning}in line {line}"


def leaves(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of everything in a JSON value that has no parts.

    A list of plain values is one leaf, and so is an empty object or list.
    """
    # A stack instead of recursion, because the depth of a file is not under our control. The last
    # part is pushed first, so that the first comes out first.
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Mapping) and value:
            for key in reversed(value):
                part_path = f"{path}.{key}" if path else str(key)
                waiting.append((part_path, value[key]))
        elif _has_nested_items(value):
            indexes = reversed(range(len(value)))
            waiting.extend((f"{path}[{index}]", value[index]) for index in indexes)
        else:
            yield path, value


def _has_nested_items(value: Any) -> bool:
    if not isinstance(value, list | tuple):
        return False
    return any(isinstance(item, Mapping | list | tuple) for item in value)


def json_text(content: Mapping[str, Any]) -> str:
    """Return a JSON object as the text of a file of a model folder."""
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
