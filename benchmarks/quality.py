"""What the quality gate catches: its figures over real images, and each limit on damaged and undamaged ones.

    python benchmarks/quality.py --data DIR --split CSV [--images N]
    python benchmarks/quality.py --data DIR --swapped

`--data` is a folder of ISIC 2019 layout, `--split` the split.csv of a model. First table: percentiles of every figure
over N training images of at least 150 px, evenly from each archive: the limits in `cadlib.images.quality` are read
off it.
Second: N validation images of that size and N smaller ones, none of them damaged, and the share of each archive that
each limit flags (beyond "poor"). Third: the larger ones damaged by each of `cadlib.images.corruptions` at strength
1, 3 and 5:
the share that the figure for it flags, the share called unreadable, and the area under the ROC curve of that figure,
damaged against undamaged. The last line is one JSON object: the share flagged undamaged, for each figure and by any,
and the mean share flagged at strength 3 and 5.

With `--swapped`: how often red and blue look swapped. First, percentiles of `red_lead` over one half of the lesions,
from which its limits are chosen. Second, over the other half, by archive, the share of images that the limits flag and
withhold, as they are and with red and blue exchanged.
"""

import argparse
import json
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from cadlib.data.dataset import open_dataset
from cadlib.data.splits import read_split
from cadlib.errors import ImageRejected
from cadlib.images import LesionImage, read_image
from cadlib.images.corruptions import CORRUPTIONS
from cadlib.images.quality import LIMITS, SWAPPED, QualityReport, inspect
from cadlib.images.red_blue_swap import swap_red_and_blue
from cadlib.thread_pool import map_ahead

SHOWN_BY = {
    "noise": "noise", "shot noise": "noise", "defocus": "sharpness", "motion": "sharpness",
    "low resolution": "sharpness", "JPEG": "compression", "overexposure": "overexposure",
    "underexposure": "underexposure", "low contrast": "contrast", "colour cast": "colour cast",
    "dark frame": "dark frame", "hair": "hair", "ruler": "ruler", "ink": "ink", "gel bubbles": "glare",
}  # fmt: skip
"""By which finding a damage of `CORRUPTIONS` is to be noticed."""
STRENGTHS = (1, 3, 5)
MIN_SIDE_PX = 150
SHARES = (0.001, 0.02, 0.5, 0.98, 0.999)


def sample(table: pd.DataFrame, n: int) -> tuple[pd.Series, list[LesionImage]]:
    """Return n images, evenly from each archive, and the archive of each."""
    each = -(-n // table["archive"].nunique())
    chosen = table.groupby("archive", group_keys=False)[["path", "archive"]].apply(
        lambda rows: rows.sample(min(each, len(rows)), random_state=0)
    )
    return chosen["archive"], [read_image(path) for path in chosen["path"]]


def figure_of(report: QualityReport, name: str) -> float:
    """Return a figure of a report, turned so that more is worse."""
    limit = next(limit for limit in LIMITS if limit.name == name)
    value = float(getattr(report.figures, limit.figure))
    return -value if limit.below else value


def flags(reports: list[QualityReport]) -> dict[str, float]:
    """Return the share of pictures that each finding flags, that any does, and that are called unreadable."""
    wrong = [{finding.name for finding in report.flagged} for report in reports]
    by_name = {
        limit.name: float(np.mean([limit.name in names for names in wrong])) for limit in LIMITS
    }
    unreadable = float(np.mean([not report.readable for report in reports]))
    return {
        **by_name,
        "any": float(np.mean([bool(names) for names in wrong])),
        "unreadable": unreadable,
    }


def red_leads(path: str) -> tuple[float, float] | None:
    """Return `red_lead` of an image as it is and with red and blue exchanged; None where it cannot be read."""
    try:
        image = read_image(path)
    except ImageRejected:
        return None
    return inspect(image).figures.red_lead, inspect(swap_red_and_blue(image)).figures.red_lead


def swapped_rates(table: pd.DataFrame) -> None:
    """Print how often red and blue look swapped, in images as they are and in images with both exchanged."""
    lesion = table["lesion_group"].fillna(table["lesion_id"]).fillna(table["image"])
    reporting = lesion.map(lambda name: zlib.crc32(name.encode()) % 2 == 1)
    measured = list(map_ahead(red_leads, table["path"]))
    table = table.assign(reporting=reporting, leads=measured).dropna(subset="leads")
    figures = pd.DataFrame(
        table["leads"].tolist(), columns=["as it is", "swapped"], index=table.index
    )

    choosing = figures["as it is"][~table["reporting"]]
    print(f"red_lead of {len(choosing):,} images of the half for choosing")
    print(choosing.quantile([0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.5]).round(3).to_string())

    limit = next(limit for limit in LIMITS if limit.name == SWAPPED)
    assert limit.unreadable is not None
    rows = []
    archives = table["archive"].fillna("not given")
    for name in ("all", *sorted(archives.unique())):
        chosen = figures[table["reporting"] & ((archives == name) | (name == "all"))]
        row: dict[str, object] = {"archive": name, "images": len(chosen)}
        for kind in figures:
            row[f"flagged, {kind}"] = f"{(chosen[kind] < limit.poor).mean():.2%}"
            row[f"withheld, {kind}"] = f"{(chosen[kind] < limit.unreadable).mean():.2%}"
        rows.append(row)
    print(f"\nthe other half, flagged below {limit.poor}, withheld below {limit.unreadable}")
    print(pd.DataFrame(rows).to_string(index=False))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", type=Path)
    parser.add_argument(
        "--swapped", action="store_true", help="measure only how often red and blue look swapped"
    )
    parser.add_argument("--images", type=int, default=300, help="of each part (default: 300)")
    options = parser.parse_args()
    if options.swapped:
        swapped_rates(open_dataset(options.data, verify=False).table)
        return
    if options.split is None:
        parser.error("Expected --split, the split.csv of a model, or --swapped.")
    table = open_dataset(options.data, verify=False).table
    large = table[["width_px", "height_px"]].min(axis=1) >= MIN_SIDE_PX
    part_of = table["image"].map(read_split(options.split).set_index("image")["split"])

    training = [
        inspect(image) for image in sample(table[large & (part_of == "train")], options.images)[1]
    ]
    figures = pd.DataFrame([vars(report.figures) for report in training])
    print(f"{len(training):,} training images")
    print(figures.quantile(list(SHARES)).T.round(4).to_string())

    archives, images = sample(table[large & (part_of == "validation")], options.images)
    _, thumbnails = sample(table[~large & (part_of == "validation")], options.images)
    began = time.perf_counter()
    clean = [inspect(image) for image in images]
    milliseconds = 1000 * (time.perf_counter() - began) / len(images)
    flagged = flags(clean)
    said = {"all": flagged}
    for archive in archives.unique():
        said[archive] = flags(
            [report for report, of in zip(clean, archives, strict=True) if of == archive]
        )
    said[f"under {MIN_SIDE_PX} px"] = flags([inspect(image) for image in thumbnails])
    print(
        f"\n{len(clean):,} validation images, {milliseconds:.1f} ms each, and {len(thumbnails):,} smaller; flagged:"
    )
    print(pd.DataFrame(said).round(3).to_string())

    print(
        f"\n{'damage':<16}{'finding':<15}{'undamaged':>9}"
        + "".join(f"{f'strength {s}':>22}" for s in STRENGTHS)
    )
    print(f"{'':<31}{'flagged':>9}" + f"{'flagged unread.   AUC':>22}" * len(STRENGTHS))
    caught = []
    for corruption in CORRUPTIONS:
        name = SHOWN_BY[corruption.name]
        line = f"{corruption.name:<16}{name:<15}{flagged[name]:9.3f}"
        for strength in STRENGTHS:
            damaged = [
                inspect(replace(image, pixels=corruption(image.pixels, strength, seed)))
                for seed, image in enumerate(images)
            ]
            found = flags(damaged)
            truth = np.repeat([0, 1], [len(clean), len(damaged)])
            auc = roc_auc_score(truth, [figure_of(report, name) for report in (*clean, *damaged)])
            line += f"{found[name]:10.2f}{found['unreadable']:7.2f}{auc:5.2f}"
            if strength >= 3:
                caught.append(found[name])
        print(line, flush=True)
    print(
        json.dumps(
            {"flagged_undamaged": flagged, "flagged_from_strength_3": float(np.mean(caught))}
        )
    )


if __name__ == "__main__":
    main()
