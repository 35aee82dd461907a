"""The images of a data set without what a reader judged wrong, as a subset takes them."""

import numpy as np
import pandas as pd

from cadlib.data.splits import lesion_groups
from cadlib.label_review.verdicts import CORRECTS, SAME_PICTURE, Verdicts, sides
from cadlib.metrics.partial_labels import label_words

CLEAN = "all images but those whose label was judged wrong; of pictures judged the same, the first by its id"
"""The rule of `cleaned`, as it stands in a subset."""


def cleaned(table: pd.DataFrame, verdicts: Verdicts) -> tuple[str, ...]:
    """Return the images of a data set's whole table that the rule CLEAN leaves, in the order of the table.

    A label that is another by now, or is the one that was said to be right, is not wrong any more. Where two pictures
    are each the same as a third, they are the same too.
    """
    given = dict(zip(table["image"], label_words(table), strict=True))
    wrong = {
        image
        for finding, said in verdicts.items()
        if said.verdict in CORRECTS
        for image, code in sides(finding)
        if code not in (said.should_be, "") and given.get(image) == code
    }
    same = [
        (one.image, one.other_image)
        for one, said in verdicts.items()
        if said.verdict == SAME_PICTURE
    ]
    out = wrong | _spare(same, given.keys() - wrong)
    return tuple(image for image in given if image not in out)


def _spare(same: list[tuple[str, str]], among: set[str]) -> set[str]:
    """Return the images of a set, but the first of each that show one picture by these pairs."""
    if not same:
        return set()
    images = pd.DataFrame({"image": np.unique(same), "lesion_id": None, "lesion_group": None})
    places = pd.Index(images["image"]).get_indexer(np.ravel(same)).reshape(-1, 2)
    left = images.assign(picture=lesion_groups(images, None, places.T))[images["image"].isin(among)]
    return set(left["image"][left["picture"].duplicated()])
