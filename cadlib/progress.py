"""Defines how long work reports its progress."""

from typing import Any, Protocol, Self

from tqdm import tqdm


class Progress(Protocol):
    """Receives reports of long work, as a progress bar does."""

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Receive that `done` of `total` are done; `what` names what is counted, as in "images"."""


def no_progress(what: str, done: int, total: int) -> None:
    """Ignore the report."""


def named(progress: Progress, what: str) -> Progress:
    """Return a receiver that passes every report on under the name `what`.

    Example:
        >>> named(print, "hashing files")("files", 3, 10)
        hashing files 3 10

    """

    def pass_on(_what: str, done: int, total: int) -> None:
        progress(what, done, total)

    return pass_on


class ProgressBars:
    """Shows progress bars on a terminal, one after the other for each thing that is counted.

    Example:
        >>> with ProgressBars() as progress:
        ...     progress("hashing images", 3, 10)

    """

    def __init__(self, *, counts_bytes: bool = False) -> None:
        """Show nothing yet. With `counts_bytes` the counts are bytes, as in a download."""
        self._counts_bytes = counts_bytes
        # A bar that shows nothing, so that there is always one to close.
        self._bar = tqdm(disable=True)
        self._what = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done, in a new bar when `what` has changed."""
        if what != self._what:
            self._bar.close()
            unit = self._unit(what)
            self._bar = tqdm(desc=what, total=total, initial=done, leave=False, **unit)
            self._what = what
        self._bar.total = total
        # tqdm counts steps, and a report has the sum.
        self._bar.update(done - self._bar.n)

    def _unit(self, what: str) -> dict[str, Any]:
        if self._counts_bytes:
            return {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
        if what.startswith("subgroups"):
            return {"unit": "subgroup"}
        return {"unit": "image"}
