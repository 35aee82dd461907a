"""What the quality gate catches: its figures over real images, and each limit on damaged and undamaged ones.

    python benchmarks/quality.py --data DIR --split CSV [--images N]

`--data` is a folder of ISIC 2019 layout, `--split` the split.csv of a model. First table: percentiles of every figure
over N training images of at least 150 px, evenly from each archive: the limits in `cadlib.quality` are read off it.
Second: N validation images, as they are and damaged by each of `cadlib.corruptions` at five strengths: the share that
its figure flags (beyond "poor"), the share called unreadable, and the area under the ROC curve of that figure, damaged
against undamaged. The last line is one JSON object: the share flagged undamaged, for each figure and by any, and the
mean share flagged at strength 3 and more.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from cadlib.corruptions import CORRUPTIONS, STRENGTHS
from cadlib.dataset import open_dataset
from cadlib.images import LesionImage, read_image
from cadlib.quality import LIMITS, QualityReport, inspect
from cadlib.splits import read_split

SHOWN_BY = {
    "noise": "noise", "shot noise": "noise", "defocus": "sharpness", "motion": "sharpness",
    "low resolution": "sharpness", "overexposure": "overexposure", "underexposure": "underexposure",
    "low contrast": "contrast", "dark frame": "dark frame", "hair": "hair", "ruler": "ruler", "ink": "ink",
    "gel bubbles": "glare",
}  # fmt: skip
"""By which finding a damage of `CORRUPTIONS` is to be noticed."""
SHARES = (0.001, 0.02, 0.5, 0.98, 0.999)


def sample(table: pd.DataFrame, n: int) -> list[LesionImage]:
    """Return n images, evenly from each archive."""
    each = -(-n // table["archive"].nunique())
    chosen = table.groupby("archive", group_keys=False)[["path"]].apply(
        lambda rows: rows.sample(min(each, len(rows)), random_state=0)
    )
    return [read_image(path) for path in chosen["path"]]


def figure_of(report: QualityReport, name: str) -> float:
    """Return a figure of a report, turned so that more is worse."""
    limit = next(limit for limit in LIMITS if limit.name == name)
    value = float(getattr(report.figures, limit.figure))
    return -value if limit.below else value


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--images", type=int, default=300, help="of each part (default: 300)")
    options = parser.parse_args()
    table = open_dataset(options.data, verify=False).table
    table = table[table[["width_px", "height_px"]].min(axis=1) >= 150]
    parts = read_split(options.split).set_index("image")["split"]
    part_of = table["image"].map(parts)

    training = [inspect(image) for image in sample(table[part_of == "train"], options.images)]
    figures = pd.DataFrame([vars(report.figures) for report in training])
    print(f"{len(training):,} training images")
    print(figures.quantile(list(SHARES)).T.round(4).to_string())

    images = sample(table[part_of == "validation"], options.images)
    began = time.perf_counter()
    clean = [inspect(image) for image in images]
    milliseconds = 1000 * (time.perf_counter() - began) / len(images)
    flagged = {
        limit.name: sum(any(one.name == limit.name for one in report.flagged) for report in clean) / len(clean)
        for limit in LIMITS
    }
    unreadable = sum(not report.readable for report in clean) / len(clean)
    print(f"\n{len(clean):,} validation images, {milliseconds:.1f} ms each; unreadable {unreadable:.3f}; flagged:")
    print(", ".join(f"{name} {share:.3f}" for name, share in flagged.items()))

    print(f"\n{'damage':<16}{'finding':<12}" + "".join(f"{f'strength {s}':>22}" for s in STRENGTHS))
    print(f"{'':<28}" + f"{'flagged unread.   AUC':>22}" * len(STRENGTHS))
    caught = []
    for corruption in CORRUPTIONS:
        if not (name := SHOWN_BY.get(corruption.name)):
            print(f"{corruption.name:<16}no figure stands for it")
            continue
        line = f"{corruption.name:<16}{name:<12}"
        for strength in STRENGTHS:
            damaged = [
                inspect(replace(image, pixels=corruption(image.pixels, strength, seed)))
                for seed, image in enumerate(images)
            ]
            share = np.mean([any(one.name == name for one in report.flagged) for report in damaged])
            lost = np.mean([not report.readable for report in damaged])
            truth = np.repeat([0, 1], [len(clean), len(damaged)])
            auc = roc_auc_score(truth, [figure_of(report, name) for report in (*clean, *damaged)])
            line += f"{share:9.2f}{lost:8.2f}{auc:5.2f}"
            if strength >= 3:
                caught.append(share)
        print(line, flush=True)
    by_any = sum(bool(report.flagged) for report in clean) / len(clean)
    ratios = {"flagged_undamaged": {**flagged, "any": by_any}, "flagged_from_strength_3": float(np.mean(caught))}
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
