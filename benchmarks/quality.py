"""Measures the quality gate: its measurements over real images, and its limits on damaged ones.

    python benchmarks/quality.py --data DIR --split CSV [--images N]
    python benchmarks/quality.py --data DIR --swapped

`--data` is a folder of ISIC 2019 layout, `--split` the split.csv of a model.

The first table has percentiles of every measurement over N training images of at least 150 px,
evenly from each archive. The limits in `cadlib.images.quality` are read from it. The second table is
on N undamaged validation images of that size, and N smaller ones: the share of each archive that
each limit flags (beyond "poor"). The third is on the larger ones, damaged by each of
`cadlib.images.corruptions` at strengths 1, 3 and 5: the share that the check for it flags, the share
that is unreadable, and the area under the ROC curve of its measurement, damaged against undamaged.
The last line is one JSON object: the share of undamaged images flagged by each check and by any, and
the mean share flagged at strengths 3 and 5.

`--swapped` measures how often red and blue look swapped. The first table has percentiles of
`red_lead` over one half of the lesions, from which its limits are chosen. The second is on the
other half, by archive: the share of images that the limits flag and withhold, as they are and with
red and blue exchanged.
"""

import argparse
import json
import sys
import time
import zlib
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from cadlib.data.dataset import open_dataset
from cadlib.data.splits import read_split
from cadlib.errors import ImageRejected
from cadlib.images import LesionImage, read_image
from cadlib.images.corruptions import CORRUPTIONS, Corruption
from cadlib.images.quality import LIMITS, SWAPPED, Limit, QualityReport, inspect
from cadlib.images.red_blue_swap import swap_red_and_blue
from cadlib.thread_pool import map_ahead

SHOWN_BY = {
    "noise": "noise",
    "shot noise": "noise",
    "defocus": "sharpness",
    "motion": "sharpness",
    "low resolution": "sharpness",
    "JPEG": "compression",
    "overexposure": "overexposure",
    "underexposure": "underexposure",
    "low contrast": "contrast",
    "colour cast": "colour cast",
    "dark frame": "dark frame",
    "hair": "hair",
    "ruler": "ruler",
    "ink": "ink",
    "gel bubbles": "glare",
}
"""Damage of `CORRUPTIONS` -> the check that should notice it."""
STRENGTHS = (1, 3, 5)
MIN_SIDE_PX = 150
SHARES = (0.001, 0.02, 0.5, 0.98, 0.999)


def sample(table: pd.DataFrame, n: int) -> tuple[pd.Series, list[LesionImage]]:
    """Return the archive of n images, evenly from each archive, and the images."""
    # Rounded up, so that at least n images come together.
    each = -(-n // table["archive"].nunique())

    def draw(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.sample(min(each, len(rows)), random_state=0)

    by_archive = table.groupby("archive", group_keys=False)[["path", "archive"]]
    chosen = by_archive.apply(draw)
    images = [read_image(path) for path in chosen["path"]]
    return chosen["archive"], images


def measurement_of(report: QualityReport, name: str) -> float:
    """Return a measurement of a report, with its sign changed where less is worse."""
    [limit] = [limit for limit in LIMITS if limit.name == name]
    value = float(getattr(report.measurements, limit.measurement))
    return -value if limit.below else value


def flag_shares(reports: list[QualityReport]) -> dict[str, float]:
    """Return the share of images that each check flags, that any flags, and unreadable ones."""
    flagged = [{check.name for check in report.flagged} for report in reports]
    shares = {}
    for limit in LIMITS:
        shares[limit.name] = mean_share([limit.name in names for names in flagged])
    shares["any"] = mean_share([bool(names) for names in flagged])
    shares["unreadable"] = mean_share([not report.readable for report in reports])
    return shares


def mean_share(selected: list[bool]) -> float:
    """Return the share of true values."""
    return float(np.mean(selected))


def red_leads(path: str) -> tuple[float, float] | None:
    """Return `red_lead` of an image as it is and with red and blue exchanged.

    Return None where it cannot be read.
    """
    try:
        image = read_image(path)
    except ImageRejected:
        return None
    as_it_is = inspect(image).measurements
    swapped = inspect(swap_red_and_blue(image)).measurements
    return as_it_is.red_lead, swapped.red_lead


def is_reporting(lesion: str) -> bool:
    """Return whether a lesion is in the half that is reported on."""
    return zlib.crc32(lesion.encode()) % 2 == 1


def print_swapped_rates(table: pd.DataFrame) -> None:
    """Print how often red and blue look swapped, in images as they are and in exchanged ones."""
    lesion = table["lesion_group"].fillna(table["lesion_id"]).fillna(table["image"])
    leads = list(map_ahead(red_leads, table["path"]))
    table = table.assign(reporting=lesion.map(is_reporting), leads=leads)
    table = table.dropna(subset="leads")
    columns = ["as it is", "swapped"]
    measurements = pd.DataFrame(table["leads"].tolist(), columns=columns, index=table.index)
    archives = table["archive"].fillna("not given")
    print_choosing(measurements["as it is"][~table["reporting"]])
    print_reporting(measurements, archives, table["reporting"])


def print_choosing(leads: "pd.Series[float]") -> None:
    """Print the percentiles from which the limits are chosen."""
    percentiles = leads.quantile([0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.5])
    print(f"red_lead of {len(leads):,} images of the half for choosing")
    print(percentiles.round(3).to_string())


def print_reporting(
    measurements: pd.DataFrame, archives: "pd.Series[str]", reporting: "pd.Series[bool]"
) -> None:
    """Print the shares that the limit flags and withholds in the half that is reported on."""
    [limit] = [limit for limit in LIMITS if limit.name == SWAPPED]
    assert limit.unreadable is not None
    rows = [swapped_row("all", measurements[reporting], limit)]
    for name in sorted(archives.unique()):
        of_archive = measurements[reporting & (archives == name)]
        rows.append(swapped_row(name, of_archive, limit))
    print(f"\nthe other half, flagged below {limit.poor}, withheld below {limit.unreadable}")
    print(pd.DataFrame(rows).to_string(index=False))


def swapped_row(name: str, measurements: pd.DataFrame, limit: Limit) -> dict[str, object]:
    """Return the shares of an archive that the limit flags and withholds."""
    row: dict[str, object] = {"archive": name, "images": len(measurements)}
    for kind in measurements:
        flagged = (measurements[kind] < limit.poor).mean()
        withheld = (measurements[kind] < limit.unreadable).mean()
        row[f"flagged, {kind}"] = f"{flagged:.2%}"
        row[f"withheld, {kind}"] = f"{withheld:.2%}"
    return row


def print_training_measurements(table: pd.DataFrame, n: int) -> None:
    """Print the percentiles of every measurement over training images."""
    _, images = sample(table, n)
    reports = [inspect(image) for image in images]
    measurements = pd.DataFrame([vars(report.measurements) for report in reports])
    percentiles = measurements.quantile(list(SHARES)).T
    print(f"{len(reports):,} training images")
    print(percentiles.round(4).to_string())


@dataclass(frozen=True)
class Undamaged:
    """Undamaged validation images, their reports, and the share that each check flags."""

    images: list[LesionImage]
    reports: list[QualityReport]
    flagged: dict[str, float]


def print_undamaged(large: pd.DataFrame, small: pd.DataFrame, n: int) -> Undamaged:
    """Print and return the shares of undamaged images that are flagged, by archive."""
    archives, images = sample(large, n)
    _, small_images = sample(small, n)
    began = time.perf_counter()
    reports = [inspect(image) for image in images]
    each_ms = 1000 * (time.perf_counter() - began) / len(images)
    flagged = flag_shares(reports)
    columns = {"all": flagged}
    for name in archives.unique():
        of_archive = (archives == name).to_numpy()
        columns[name] = flag_shares(list(compress(reports, of_archive)))
    small_reports = [inspect(image) for image in small_images]
    columns[f"under {MIN_SIDE_PX} px"] = flag_shares(small_reports)
    counts = f"{len(reports):,} validation images, {each_ms:.1f} ms each"
    print(f"\n{counts}, and {len(small_images):,} smaller; flagged:")
    print(pd.DataFrame(columns).round(3).to_string())
    return Undamaged(images, reports, flagged)


def print_damaged(undamaged: Undamaged) -> list[float]:
    """Print how each damage is noticed; return the shares flagged from strength 3 on."""
    titles = "".join(f"{f'strength {strength}':>22}" for strength in STRENGTHS)
    print(f"\n{'damage':<16}{'check':<15}{'undamaged':>9}{titles}")
    print(f"{'':<31}{'flagged':>9}" + f"{'flagged unread.   AUC':>22}" * len(STRENGTHS))
    flagged_strong = []
    for corruption in CORRUPTIONS:
        name = SHOWN_BY[corruption.name]
        line = f"{corruption.name:<16}{name:<15}{undamaged.flagged[name]:9.3f}"
        for strength in STRENGTHS:
            reports = inspect_damaged(undamaged.images, corruption, strength)
            shares = flag_shares(reports)
            auc = separation(undamaged.reports, reports, name)
            line += f"{shares[name]:10.2f}{shares['unreadable']:7.2f}{auc:5.2f}"
            if strength >= 3:
                flagged_strong.append(shares[name])
        print(line, flush=True)
    return flagged_strong


def inspect_damaged(
    images: list[LesionImage], corruption: Corruption, strength: int
) -> list[QualityReport]:
    """Return the reports of damaged images; the number of an image is the seed of its damage."""
    reports = []
    for seed, image in enumerate(images):
        pixels = corruption(image.pixels, strength, seed)
        reports.append(inspect(replace(image, pixels=pixels)))
    return reports


def separation(undamaged: list[QualityReport], damaged: list[QualityReport], name: str) -> float:
    """Return the area under the ROC curve of a measurement, damaged against undamaged."""
    truth = np.repeat([0, 1], [len(undamaged), len(damaged)])
    values = [measurement_of(report, name) for report in (*undamaged, *damaged)]
    return float(roc_auc_score(truth, values))


def read_options() -> argparse.Namespace:
    """Read the command line; end where --split is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", type=Path)
    parser.add_argument(
        "--swapped", action="store_true", help="measure only how often red and blue look swapped"
    )
    parser.add_argument("--images", type=int, default=300, help="of each part (default: 300)")
    options = parser.parse_args()
    if not options.swapped and options.split is None:
        parser.error("Expected --split, the split.csv of a model, or --swapped.")
    return options


def main() -> None:
    """Measure and print."""
    options = read_options()
    table = open_dataset(options.data, verify=False).table
    if options.swapped:
        print_swapped_rates(table)
        return
    split = read_split(options.split).set_index("image")["split"]
    part_of = table["image"].map(split)
    is_large = table[["width_px", "height_px"]].min(axis=1) >= MIN_SIDE_PX
    is_validation = part_of == "validation"
    n = options.images
    print_training_measurements(table[is_large & (part_of == "train")], n)
    undamaged = print_undamaged(
        table[is_large & is_validation], table[~is_large & is_validation], n
    )
    flagged_strong = print_damaged(undamaged)
    result = {
        "flagged_undamaged": undamaged.flagged,
        "flagged_from_strength_3": float(np.mean(flagged_strong)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
