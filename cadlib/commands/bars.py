"""Progress bars for what is counted one thing after the other."""

from tqdm import tqdm

_UNITS = {"images": "image", "subgroups measured": "subgroup", "subgroups compared": "subgroup"}


class Bars:
    """One progress bar after the other, each for one thing that is counted."""

    def __init__(self, *, images: bool = False) -> None:
        self._images = images  # all that is counted is images, not bytes
        self._bar = tqdm(disable=True)
        self._what = ""

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how many of `total` are done, in a new bar when `what` is another than before."""
        if what != self._what:
            self._bar.close()
            counted = "image" if self._images else _UNITS.get(what)
            sized = {"unit": counted} if counted else {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
            self._bar = tqdm(desc=what, total=total, initial=done, leave=False, **sized)
            self._what = what
        self._bar.update(done - self._bar.n)
