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
    n_archives = table["archive"].nunique()
    # Rounded up, so that at least n images come together.
    each = -(-n // n_archives)

    def draw(rows: pd.DataFrame) -> pd.DataFrame:
        count = min(each, len(rows))
        return rows.sample(count, random_state=0)

    by_archive = table.groupby("archive", group_keys=False)
    columns = by_archive[["path", "archive"]]
    chosen = columns.apply(draw)
    images = [read_image(path) for path in chosen["path"]]
    return chosen["archive"], images


def limit_of(name: str) -> Limit:
    """Return the limit of a check."""
    [limit] = [limit for limit in LIMITS if limit.name == name]
    return limit


def measurement_of(report: QualityReport, name: str) -> float:
    """Return a measurement of a report, with its sign changed where less is worse."""
    limit = limit_of(name)
    measurement = getattr(report.measurements, limit.measurement)
    value = float(measurement)
    if limit.below:
        return -value
    return value


def flag_shares(reports: list[QualityReport]) -> dict[str, float]:
    """Return the share of images that each check flags, that any flags, and unreadable ones."""
    flagged: dict[str, list[bool]] = {limit.name: [] for limit in LIMITS}
    is_flagged = []
    is_unreadable = []
    for report in reports:
        names = {check.name for check in report.flagged}
        for name, values in flagged.items():
            values.append(name in names)
        is_flagged.append(bool(names))
        is_unreadable.append(not report.readable)
    flagged["any"] = is_flagged
    flagged["unreadable"] = is_unreadable
    shares = {}
    for name, values in flagged.items():
        shares[name] = mean_share(values)
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


def lesion_names(table: pd.DataFrame) -> "pd.Series[str]":
    """Return the lesion of each image; an image without one is its own lesion."""
    groups = table["lesion_group"]
    lesions = groups.fillna(table["lesion_id"])
    return lesions.fillna(table["image"])


def print_swapped_rates(table: pd.DataFrame) -> None:
    """Print how often red and blue look swapped, in images as they are and in exchanged ones."""
    lesions = lesion_names(table)
    leads = list(map_ahead(red_leads, table["path"]))
    table = table.assign(
        reporting=lesions.map(is_reporting),
        leads=leads,
    )
    # Images that cannot be read have none.
    table = table.dropna(subset="leads")
    measurements = pd.DataFrame(
        table["leads"].tolist(),
        columns=["as it is", "swapped"],
        index=table.index,
    )
    archives = table["archive"].fillna("not given")
    reporting = table["reporting"]
    choosing = measurements.loc[~reporting, "as it is"]
    print_choosing(choosing)
    print_reporting(measurements, archives, reporting)


def print_choosing(leads: "pd.Series[float]") -> None:
    """Print the percentiles from which the limits are chosen."""
    shares = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.5]
    percentiles = leads.quantile(shares)
    rounded = percentiles.round(3)
    n_images = len(leads)
    print(f"red_lead of {n_images:,} images of the half for choosing")
    print(rounded.to_string())


def print_reporting(
    measurements: pd.DataFrame,
    archives: "pd.Series[str]",
    reporting: "pd.Series[bool]",
) -> None:
    """Print the shares that the limit flags and withholds in the half that is reported on."""
    limit = limit_of(SWAPPED)
    assert limit.unreadable is not None
    all_reported = measurements[reporting]
    rows = [swapped_row("all", all_reported, limit)]
    for name in sorted(archives.unique()):
        in_archive = archives == name
        of_archive = measurements[reporting & in_archive]
        row = swapped_row(name, of_archive, limit)
        rows.append(row)
    limits = f"flagged below {limit.poor}, withheld below {limit.unreadable}"
    print(f"\nthe other half, {limits}")
    shares = pd.DataFrame(rows)
    print(shares.to_string(index=False))


def swapped_row(
    name: str,
    measurements: pd.DataFrame,
    limit: Limit,
) -> dict[str, object]:
    """Return the shares of an archive that the limit flags and withholds."""
    row: dict[str, object] = {}
    row["archive"] = name
    row["images"] = len(measurements)
    for kind in measurements:
        leads = measurements[kind]
        is_flagged = leads < limit.poor
        is_withheld = leads < limit.unreadable
        row[f"flagged, {kind}"] = f"{is_flagged.mean():.2%}"
        row[f"withheld, {kind}"] = f"{is_withheld.mean():.2%}"
    return row


def print_training_measurements(table: pd.DataFrame, n: int) -> None:
    """Print the percentiles of every measurement over training images."""
    _, images = sample(table, n)
    rows = []
    for image in images:
        report = inspect(image)
        rows.append(vars(report.measurements))
    n_images = len(rows)
    measurements = pd.DataFrame(rows)
    percentiles = measurements.quantile(list(SHARES))
    rounded = percentiles.T.round(4)
    print(f"{n_images:,} training images")
    print(rounded.to_string())


@dataclass(frozen=True)
class Undamaged:
    """Undamaged validation images, their reports, and the share that each check flags."""

    images: list[LesionImage]
    reports: list[QualityReport]
    flagged: dict[str, float]


def shares_by_archive(
    reports: list[QualityReport],
    archives: "pd.Series[str]",
) -> dict[str, dict[str, float]]:
    """Return the shares of all images that each check flags, and those of each archive."""
    columns = {"all": flag_shares(reports)}
    for name in archives.unique():
        in_archive = archives == name
        of_archive = list(compress(reports, in_archive))
        columns[name] = flag_shares(of_archive)
    return columns


def print_undamaged(
    large: pd.DataFrame,
    small: pd.DataFrame,
    n: int,
) -> Undamaged:
    """Print and return the shares of undamaged images that are flagged, by archive."""
    archives, images = sample(large, n)
    _, small_images = sample(small, n)
    began = time.perf_counter()
    reports = [inspect(image) for image in images]
    seconds = time.perf_counter() - began
    each_ms = 1000 * seconds / len(images)
    columns = shares_by_archive(reports, archives)
    small_reports = [inspect(image) for image in small_images]
    columns[f"under {MIN_SIDE_PX} px"] = flag_shares(small_reports)
    counts = f"{len(reports):,} validation images, {each_ms:.1f} ms each"
    n_small = len(small_images)
    print(f"\n{counts}, and {n_small:,} smaller; flagged:")
    shares = pd.DataFrame(columns)
    rounded = shares.round(3)
    print(rounded.to_string())
    return Undamaged(images, reports, columns["all"])


def print_damage_titles() -> None:
    """Print the two lines above the table of damages."""
    titles = ""
    for strength in STRENGTHS:
        title = f"strength {strength}"
        titles += f"{title:>22}"
    print(f"\n{'damage':<16}{'check':<15}{'undamaged':>9}{titles}")
    columns = f"{'flagged unread.   AUC':>22}" * len(STRENGTHS)
    print(f"{'':<31}{'flagged':>9}{columns}")


def print_damaged(undamaged: Undamaged) -> list[float]:
    """Print how each damage is noticed; return the shares flagged from strength 3 on."""
    print_damage_titles()
    flagged_strong = []
    for corruption in CORRUPTIONS:
        check = SHOWN_BY[corruption.name]
        line = f"{corruption.name:<16}{check:<15}"
        line += f"{undamaged.flagged[check]:9.3f}"
        for strength in STRENGTHS:
            reports = inspect_damaged(
                undamaged.images,
                corruption,
                strength,
            )
            shares = flag_shares(reports)
            flagged = shares[check]
            unreadable = shares["unreadable"]
            auc = separation(undamaged.reports, reports, check)
            line += f"{flagged:10.2f}{unreadable:7.2f}{auc:5.2f}"
            if strength >= 3:
                flagged_strong.append(flagged)
        print(line, flush=True)
    return flagged_strong


def inspect_damaged(
    images: list[LesionImage],
    corruption: Corruption,
    strength: int,
) -> list[QualityReport]:
    """Return the reports of damaged images; the number of an image is the seed of its damage."""
    reports = []
    for seed, image in enumerate(images):
        pixels = corruption(image.pixels, strength, seed)
        damaged = replace(image, pixels=pixels)
        reports.append(inspect(damaged))
    return reports


def separation(
    undamaged: list[QualityReport],
    damaged: list[QualityReport],
    name: str,
) -> float:
    """Return the area under the ROC curve of a measurement, damaged against undamaged."""
    counts = [len(undamaged), len(damaged)]
    truth = np.repeat([0, 1], counts)
    values = []
    for report in (*undamaged, *damaged):
        value = measurement_of(report, name)
        values.append(value)
    auc = roc_auc_score(truth, values)
    return float(auc)


def read_options() -> argparse.Namespace:
    """Read the command line; end where --split is missing."""
    summary_line = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary_line)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", type=Path)
    parser.add_argument(
        "--swapped",
        action="store_true",
        help="measure only how often red and blue look swapped",
    )
    parser.add_argument(
        "--images",
        type=int,
        default=300,
        help="of each part (default: 300)",
    )
    options = parser.parse_args()
    if not options.swapped and options.split is None:
        parser.error("Expected --split, the split.csv of a model, or --swapped.")
    return options


def main() -> None:
    """Measure and print."""
    options = read_options()
    dataset = open_dataset(options.data, verify=False)
    table = dataset.table
    if options.swapped:
        print_swapped_rates(table)
        return
    rows = read_split(options.split).set_index("image")
    part = table["image"].map(rows["split"])
    sides_px = table[["width_px", "height_px"]]
    is_large = sides_px.min(axis=1) >= MIN_SIDE_PX
    is_train = part == "train"
    is_validation = part == "validation"
    n = options.images
    print_training_measurements(table[is_large & is_train], n)
    large = table[is_large & is_validation]
    small = table[~is_large & is_validation]
    undamaged = print_undamaged(large, small, n)
    flagged_strong = print_damaged(undamaged)
    result = {
        "flagged_undamaged": undamaged.flagged,
        "flagged_from_strength_3": float(np.mean(flagged_strong)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
