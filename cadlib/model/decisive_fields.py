"""Lists the fields of model.json that decide an answer.

Every field is in one of two lists. DECIDING fields change a model's answers: their hash is part of
the model's id, which pages show and which predictions carry. DESCRIPTIVE fields describe the origin
of the model and its measurements: they may change while the answers stay the same.

A path is written as in an error message, without the leading `$.`: `operating_points[1].threshold`.
In the lists an index is left out, and an entry covers everything below it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from cadlib.files.typed_json import leaves

DECIDING = (
    "members[].backbone",
    "members[].saliency_layer",
    "members[].weights_sha256",
    "members[].onnx_sha256",
    "views",
    "average",
    "codes",
    "input",
    "temperature",
    "bias",
    "conformal",
    "operating_points[].name",
    "operating_points[].threshold",
    "metadata.evidence",
    "metadata.operating_points[].name",
    "metadata.operating_points[].threshold",
    "neighbours.sha256",
    "novelty.limit",
    "novelty.sha256",
)
DESCRIPTIVE = (
    "format_version",
    "name",
    "version",
    "created",
    "members",
    "training",
    "audit",
    "balanced_rule",
    "libraries",
    "data_licence",
    "intended_use",
    "known_limits",
    "operating_points",
    "metadata",
    "neighbours",
    "novelty",
)
"""A field in both lists, as `novelty.limit` under `novelty`, belongs to the longer entry."""

ID_DIGITS = 12
"""Hexadecimal digits of the hash in a model's id: 48 bits make a collision by chance unlikely."""
_FIELD_DIGITS = 16
_INDEX = re.compile(r"\[\d+\]")


def answers_sha256(content: Mapping[str, Any]) -> str:
    """Return the hash of the fields of a model.json, as JSON values, that decide an answer."""
    deciding = {path: value for path, value in leaves(content) if _entry(path) in DECIDING}
    return _digest(deciding)


def field_digests(content: Mapping[str, Any]) -> dict[str, str]:
    """Return a short hash of each deciding field, and of each entry of descriptive ones.

    A comparison of two results shows which fields changed.
    """
    parts: dict[str, dict[str, Any]] = {}
    for path, value in leaves(content):
        entry = _entry(path)
        name = entry if entry in DESCRIPTIVE else path
        part = parts.setdefault(name, {})
        part[path] = value
    digests: dict[str, str] = {}
    for name in sorted(parts):
        digests[name] = _digest(parts[name])[:_FIELD_DIGITS]
    return digests


def _entry(path: str) -> str:
    """Return the longest entry of the two lists that a path belongs to; "" where there is none."""
    # The lists name each kind of field once, whatever the number of operating points.
    general = _INDEX.sub("[]", path)
    longest = ""
    for entry in (*DECIDING, *DESCRIPTIVE):
        # With the separator, a field whose name only begins like an entry is not below it.
        fields_below = (f"{entry}.", f"{entry}[")
        is_below = general.startswith(fields_below)
        if general != entry and not is_below:
            continue
        if len(entry) > len(longest):
            longest = entry
    return longest


def _digest(values: Mapping[str, Any]) -> str:
    # The order of the keys in a file decides nothing, so the keys are sorted.
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
