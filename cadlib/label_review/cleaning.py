"""Selects the images of a data set that were not judged wrong."""

import numpy as np
import pandas as pd

from cadlib.data.splits import lesion_groups
from cadlib.label_review.verdicts import (
    CORRECTS,
    SAME_PICTURE,
    Finding,
    Verdict,
    Verdicts,
    sides,
)
from cadlib.metrics.partial_labels import label_words

CLEAN = (
    "all images except those with a label judged wrong; "
    "of images judged the same, the first by its id"
)
"""The rule of `cleaned`, as a subset stores it."""


def cleaned(table: pd.DataFrame, verdicts: Verdicts) -> tuple[str, ...]:
    """Return the images of a data set's whole table that the rule CLEAN keeps, in table order.

    A label is not wrong any more if it has changed since the verdict, or is the one that the
    verdict calls right. Two images that are each the same as a third are the same, too.
    """
    labels = dict(zip(table["image"], label_words(table), strict=True))
    wrong: set[str] = set()
    same = []
    for finding, verdict in verdicts.items():
        if verdict.verdict in CORRECTS:
            wrong |= _still_wrong(finding, verdict, labels)
        if verdict.verdict == SAME_PICTURE:
            same.append((finding.image, finding.other_image))
    # An image with a wrong label is left out, so that it cannot be the first of the same images.
    correct = labels.keys() - wrong
    left_out = wrong | _repeated(same, correct)
    return tuple(image for image in labels if image not in left_out)


def _still_wrong(
    finding: Finding,
    verdict: Verdict,
    labels: dict[str, str],
) -> set[str]:
    """Return the images of a finding whose label is wrong by a verdict, and the same today."""
    wrong = set()
    for image, code in sides(finding):
        # Of two labels, the one that the verdict calls correct is not wrong.
        if not code or code == verdict.should_be:
            continue
        # A label that was changed since counts as corrected.
        if labels.get(image) == code:
            wrong.add(image)
    return wrong


def _repeated(
    same: list[tuple[str, str]],
    among: set[str],
) -> set[str]:
    """Return the images of a set that repeat another of it with a lesser id, by pairs of ids."""
    if not same:
        return set()
    names = np.unique(same)
    images = pd.DataFrame({"image": names, "lesion_id": None, "lesion_group": None})
    places = pd.Index(images["image"]).get_indexer(np.ravel(same))
    pairs = places.reshape(-1, 2).T
    # The groups of "lesions" are here the groups of the same images, as nothing else joins them.
    images["group"] = lesion_groups(images, None, pairs)
    images = images[images["image"].isin(among)]
    repeated = images["group"].duplicated()
    return set(images["image"][repeated])
