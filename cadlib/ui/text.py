"""How the pages write a diagnosis, and text that came with a file."""

import re

from cadlib.taxonomy import BENIGN_MARK, CODES, MALIGNANT_MARK, diagnosis


def plain(text: str) -> str:
    """Escape what Markdown would read as layout, for text that comes from a file or its name."""
    return re.sub(r"([\\`*_{}\[\]()#+\-!|~$:<>])", r"\\\1", text)


def sign(code: str) -> str:
    """Return the sign of a diagnosis: ▲ malignant, ● benign, ○ none of the eight."""
    return diagnosis(code).mark if code in CODES else "○"


def mark(code: str) -> str:
    """Return the sign of a diagnosis in the hue of its group, as Markdown."""
    hue = {MALIGNANT_MARK: "orange", BENIGN_MARK: "blue"}.get(sign(code), "gray")
    return f":{hue}[{sign(code)}]"


def named(code: str) -> str:
    """Return a code with its name, "MEL Melanoma"; the code alone where it is none of the eight."""
    return f"{code} {diagnosis(code).name}" if code in CODES else code
