"""Defines the ranges of values in the files of a model.

They are wide enough for every model that `train` can write, and narrow enough that no value inside
them makes an answer fail.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from cadlib.taxonomy import CODES

_MOST = 10**9
Count = Annotated[int, Meta(ge=0, le=_MOST)]
Positive = Annotated[int, Meta(ge=1, le=_MOST)]
Share = Annotated[float, Meta(ge=0, le=1)]
Value = Annotated[float, Meta(ge=-1e6, le=1e6)]
"""A number without a range of its own, such as a correlation."""
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""A SHA-256 in hexadecimal."""
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", max_length=100)]
Line = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]+\Z", max_length=500)]
"""Text without a line break."""
Text = Annotated[str, Meta(max_length=5000)]


class JsonObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object of a file: a key without a default is required, and no other is known.

    Ranges are checked where a file is read, not where code builds an object.
    """


def type_by_code(name: str, value: Any) -> type[msgspec.Struct]:
    """Return the type of an object that has a field of type `value` for each code, in their order.

    mypy cannot know these fields, because they are made at run time.
    """
    fields = [(code, value) for code in CODES]
    return msgspec.defstruct(name, fields, bases=(JsonObject,), frozen=True)
