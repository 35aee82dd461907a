"""Runs several networks on views of an image, and averages them.

A prediction is the average of a few networks, each trained on other images, and of the eight flips
and quarter turns of the image. Turning the image then changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cadlib.images import preprocess
from cadlib.images.turns import TURNS, Turn, turned, turned_back
from cadlib.model import calibration
from cadlib.model.engine import Engine, Seen

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Average = Literal["logits", "probabilities"]

VIEWS = (1, len(TURNS))
"""Numbers of views that a network may read of an image: as it is, or all flips and turns."""
_PASS_VIEWS = 64
"""Views in one pass of a network. More need more memory and save no time."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs of a committee for N images, float32.

    M is the number of its networks and V that of views. `logits`, (N, 8), is their average.
    `member_logits`, (N, M, 8), is the average of each network over the views, and `view_logits`,
    (N, V, 8), that of each view over the networks. `features`, (N, C), is that of `engine.Seen` for
    each network, averaged over the views and joined. `evidence`, (N, 8, h, w), is the average of
    the networks and of the views, each at the places of the image as it is.
    """

    logits: Floats
    member_logits: Floats
    view_logits: Floats
    features: Floats
    evidence: Floats


class Committee:
    """The networks of a model, which predict together. Any number of threads may use it at once.

    Each network reads each of the `turns` of an image. `average` is what is averaged. An average of
    logits is the geometric mean of the probabilities, up to a factor. An average of probabilities
    is given as their logarithms.
    """

    def __init__(
        self,
        members: Sequence[Engine],
        views: int = 1,
        average: Average = "logits",
    ) -> None:
        if views not in VIEWS:
            raise ValueError(f"Expected `views` to be 1 or {len(TURNS)} but got {views!r}.")
        self.members = tuple(members)
        self.turns = TURNS[:views]
        self.average = average

    def with_views(self, views: int) -> "Committee":
        """Return the same networks for another number of views."""
        return Committee(self.members, views, self.average)

    def run(self, pixels: Bytes, spec: preprocess.InputSpec) -> Outputs:
        """Run every network on every view of (N, S, S, 3) uint8 RGB, N at least 1."""
        images_in_pass = _PASS_VIEWS // len(self.turns)
        parts = []
        for first in range(0, len(pixels), images_in_pass):
            part = pixels[first : first + images_in_pass]
            parts.append(self._run_part(part, spec))
        if len(parts) == 1:
            return parts[0]
        return Outputs(
            logits=np.concatenate([part.logits for part in parts]),
            member_logits=np.concatenate([part.member_logits for part in parts]),
            view_logits=np.concatenate([part.view_logits for part in parts]),
            features=np.concatenate([part.features for part in parts]),
            evidence=np.concatenate([part.evidence for part in parts]),
        )

    def _run_part(self, pixels: Bytes, spec: preprocess.InputSpec) -> Outputs:
        """Run all networks on so few images that each has one pass."""
        views = np.concatenate([turned(pixels, turn) for turn in self.turns])
        inputs = preprocess.to_array(views, spec)
        by_member = [member.run(inputs) for member in self.members]
        n_views = len(self.turns)
        # (M, V, N, 8): a pass has all images of the first view, then those of the next.
        logits = np.stack([_by_view(outputs.logits, n_views) for outputs in by_member])
        view_features = [_by_view(outputs.features, n_views) for outputs in by_member]
        features = [of_member.mean(axis=0) for of_member in view_features]
        evidence = [_upright_mean(outputs, self.turns) for outputs in by_member]
        return Outputs(
            logits=averaged(logits, (0, 1), self.average),
            member_logits=averaged(logits, (1,), self.average).swapaxes(0, 1),
            view_logits=averaged(logits, (0,), self.average).swapaxes(0, 1),
            features=np.concatenate(features, axis=1),
            evidence=np.mean(evidence, axis=0, dtype=np.float32),
        )


def averaged(logits: Floats, axes: tuple[int, ...], average: Average) -> Floats:
    """Average (…, 8) logits over axes before the last one, as a committee does."""
    if average == "logits":
        mean: Floats = logits.mean(axis=axes, dtype=np.float32)
        return mean
    rows = logits.reshape(-1, logits.shape[-1])
    shares = calibration.probabilities(rows, 1.0, calibration.NO_BIAS)
    mean_share = shares.reshape(logits.shape).mean(axis=axes)
    # A share so small that it is 0 would have no logarithm.
    least = np.finfo(np.float64).tiny
    log_mean: Floats = np.log(np.maximum(mean_share, least)).astype(np.float32)
    return log_mean


def _by_view(outputs: Floats, n_views: int) -> Floats:
    """Return (V * N, …) outputs of one pass as (V, N, …)."""
    return outputs.reshape(n_views, -1, *outputs.shape[1:])


def _upright_mean(outputs: Seen, turns: Sequence[Turn]) -> Floats:
    """Return the evidence of a pass, averaged over the views at the places of the upright image."""
    by_view = _by_view(outputs.evidence, len(turns))
    upright = [turned_back(maps, turn) for maps, turn in zip(by_view, turns, strict=True)]
    mean: Floats = np.mean(upright, axis=0, dtype=np.float32)
    return mean
