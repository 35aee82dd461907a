"""Defines the messages between the app and its decoders.

A request carries the bytes of a file, a reply carries pixels and a description as JSON.
The decoder works on untrusted bytes. So its replies are untrusted too: nothing in them is
unpickled, and every value is checked before it is used.
"""

import json
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from cadlib.errors import FactsRejected
from cadlib.images.file_types.kinds import DICOM, FORMATS
from cadlib.images.patient import NO_FACTS, PatientFacts

MAX_TEXT_BYTES = 64 * 1024
"""The longest description in a reply. A usual one has 100 bytes."""

_MAX_NOTES = 100
_REQUEST = struct.Struct("<4sBIIQ")
_REPLY = struct.Struct("<4sBBIII")
_REQUEST_MARK = b"CADQ"
_REPLY_MARK = b"CADR"

REQUEST_BYTES = _REQUEST.size
REPLY_BYTES = _REPLY.size


class ReplyInvalid(Exception):
    """A decoder sent an invalid reply."""


class Work(IntEnum):
    """The tasks of a decoder."""

    DECODE = 1
    SIZE = 2
    # Import pydicom, which takes longer than most images.
    LOAD_DICOM = 3


class Outcome(IntEnum):
    """The result of a task."""

    READY = 0
    IMAGE = 1
    SIZE = 2
    REJECTED = 3
    OUT_OF_MEMORY = 4
    FAILED = 5


_OUTCOMES = frozenset(Outcome)


class Request(NamedTuple):
    """The fixed start of a request; the name and the bytes of the file follow."""

    work: Work
    enough_px: int
    name_bytes: int
    data_bytes: int

    def pack(self) -> bytes:
        """Return the request as bytes."""
        return _REQUEST.pack(_REQUEST_MARK, *self)

    @classmethod
    def unpack(cls, data: bytes) -> "Request":
        """Read a request. It comes from the app, which is trusted."""
        fields = _REQUEST.unpack(data)
        _, work, enough_px, name_bytes, data_bytes = fields
        return cls(Work(work), enough_px, name_bytes, data_bytes)


class Reply(NamedTuple):
    """The fixed start of a reply; `text_bytes` of JSON or text follow.

    The pixels of an image are in `pixel_memory`, or follow the text if the platform has none.
    `retire` requests another decoder, because this one has grown.
    """

    outcome: Outcome
    retire: bool = False
    text_bytes: int = 0
    width_px: int = 0
    height_px: int = 0

    def pack(self) -> bytes:
        """Return the start of a reply as bytes."""
        return _REPLY.pack(_REPLY_MARK, *self)

    @classmethod
    def unpack(cls, data: bytes) -> "Reply":
        """Read the start of a reply; raise ReplyInvalid for other data."""
        fields = _REPLY.unpack(data)
        mark, outcome, retire, text_bytes, width_px, height_px = fields
        if mark != _REPLY_MARK or outcome not in _OUTCOMES:
            raise ReplyInvalid
        if text_bytes > MAX_TEXT_BYTES:
            raise ReplyInvalid
        return cls(
            outcome=Outcome(outcome),
            retire=bool(retire),
            text_bytes=text_bytes,
            width_px=width_px,
            height_px=height_px,
        )


@dataclass(frozen=True)
class Description:
    """A decoder's description of an image. The fields are those of LesionImage."""

    format: str
    notes: tuple[str, ...] = ()
    reduced: tuple[int, int] | None = None
    facts: PatientFacts = NO_FACTS

    def to_json(self) -> bytes:
        """Return the description as JSON."""
        facts = self.facts
        values = {
            "format": self.format,
            "notes": self.notes,
            "reduced": self.reduced,
            "facts": [facts.age_years, facts.sex, facts.site],
        }
        return json.dumps(values).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Description":
        """Read and check a description; raise ReplyInvalid for other data."""
        try:
            values = json.loads(data)
            age_years, sex, site = values["facts"]
            facts = PatientFacts(age_years, sex, site)
            notes = values["notes"]
            kind = values["format"]
            reduced = values["reduced"]
        except (ValueError, TypeError, KeyError, RecursionError, FactsRejected):
            raise ReplyInvalid from None
        if kind not in (*FORMATS.values(), DICOM):
            raise ReplyInvalid
        if not isinstance(notes, list) or len(notes) > _MAX_NOTES:
            raise ReplyInvalid
        return cls(
            format=kind,
            notes=tuple(printable(note) for note in notes),
            reduced=_pair(reduced),
            facts=facts,
        )


def write_all(descriptor: int, *parts: bytes | memoryview) -> None:
    """Write all parts to a pipe, with as few calls as possible: each may wake the reader."""
    rest = [memoryview(part) for part in parts if len(part)]
    while rest:
        count = _write_some(descriptor, rest)
        # Remove the parts that were written whole, and the start of the next one.
        while rest and count >= len(rest[0]):
            part = rest.pop(0)
            count -= len(part)
        if rest:
            rest[0] = rest[0][count:]


def _write_some(descriptor: int, parts: list[memoryview]) -> int:
    """Write as much as a pipe takes in one call; return the number of bytes."""
    if hasattr(os, "writev"):
        return os.writev(descriptor, parts)
    return os.write(descriptor, parts[0])


def printable(text: Any) -> str:
    """Return a decoder's text without control characters; raise ReplyInvalid for other types."""
    if not isinstance(text, str):
        raise ReplyInvalid
    return "".join(character if character.isprintable() else "?" for character in text)


def _pair(value: Any) -> tuple[int, int] | None:
    """Check a pair of positive numbers, or None."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise ReplyInvalid
    width, height = value
    # A bool of JSON is also an instance of int.
    if type(width) is not int or type(height) is not int:
        raise ReplyInvalid
    if width < 1 or height < 1:
        raise ReplyInvalid
    return width, height
