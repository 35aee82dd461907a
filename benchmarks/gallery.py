"""Measures clicks in a data set of half a million images, against pandas, and the server's memory.

    python benchmarks/gallery.py [--images N] [--clicks N]

First the catalogue alone, on a drawn table: some queries of facets, ranges, text and order, with
the counts of every facet. The peer does the same with pandas (masks, value_counts, sort_values).

Then the page: a data set in ISIC's layout, whose images are links to a few drawn ones, is opened in
a Chromium of this system. Its pages are turned and its facets chosen. A click is done when a frame
shows the new tiles with their images, which are made on demand. A page is turned after half a
second, in which the next one is prepared, and in haste, without any wait. It prints the resident
memory of the server before and after. The last line is one JSON object: medians in ms, MB, and the
ratio to pandas.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from benchmarks.app import FLAGS, ROOT, chromium, resident_mb, serving
from cadlib.evaluation.catalogue import FACETS, NUMBERS, Catalogue, Query
from cadlib.images.patient import SEXES, SITES
from cadlib.images.synthetic import render_lesion
from cadlib.taxonomy import CODES, UNKNOWN

TEXT_COLUMNS = {
    "diagnosis": CODES,
    "malignancy": ("malignant", "benign"),
    "said": CODES,
    "verdict": ("right", "wrong"),
    "sex": SEXES,
    "anatom_site_general": SITES,
    "archive": ("HAM10000", "BCN20000", "MSK"),
    "split": ("train", "validation", "test"),
}
"""Column -> its values."""
IMAGES = 64
LOOK_S = 0.5
VIEWPORT: ViewportSize = {"width": 1440, "height": 1000}
Masks = dict[str, "pd.Series[bool]"]
"""Column -> the rows that fit."""
Counts = dict[str, dict[str, int]]
"""Facet -> value -> its number of rows."""
QUERIES = (
    Query(),
    Query(
        {"diagnosis": ("MEL", "BCC"), "sex": ("female",)},
        {"age_approx": (30.0, 60.0)},
        order="loss",
    ),
    Query({"verdict": ("wrong",)}, {}, "12", "risk"),
    Query(text="isic_004", order="uncertainty"),
)


def drawn_table(n: int) -> pd.DataFrame:
    """Return a table of n rows with every column that a catalogue is searched by."""
    rng = np.random.default_rng(0)
    names = [f"ISIC_{row:07d}" for row in range(n)]
    columns: dict[str, object] = {"image": names}
    for name, values in TEXT_COLUMNS.items():
        # None is a missing value.
        drawn = rng.choice([*values, None], n)
        columns[name] = pd.array(drawn, "str")
    for name in NUMBERS:
        largest = 90 if name == "age_approx" else 1
        drawn = rng.random(n)
        columns[name] = drawn * largest
    return pd.DataFrame(columns)


def column_masks(table: pd.DataFrame, query: Query) -> Masks:
    """Return, for each column that a query restricts, the rows that fit."""
    masks = {}
    for name, values in query.chosen.items():
        column = table[name]
        masks[name] = column.isin(values)
    for name, ends in query.ranges.items():
        column = table[name]
        masks[name] = column.between(*ends)
    images = table["image"].str
    masks["image"] = images.contains(
        query.text,
        case=False,
        regex=False,
    )
    return masks


def all_of(masks: Masks, index: "pd.Index[int]") -> "pd.Series[bool]":
    """Return the rows that fit every mask."""
    matches = pd.Series(True, index)
    for mask in masks.values():
        matches &= mask
    return matches


def ask_pandas(table: pd.DataFrame, query: Query) -> tuple[pd.DataFrame, Counts]:
    """Return the rows of a query and the counts of every facet, without a catalogue."""
    masks = column_masks(table, query)
    counts = {}
    for name in FACETS:
        # The counts of a facet ignore its own choice.
        others = masks.copy()
        others.pop(name, None)
        matches = all_of(others, table.index)
        values = table.loc[matches, name]
        by_value = values.value_counts(dropna=False)
        counts[name] = by_value.to_dict()
    matches = all_of(masks, table.index)
    rows = table[matches]
    if query.order:
        rows = rows.sort_values(query.order, ascending=False)
    return rows, counts


def median_ms(
    do: Callable[[Query], object],
    rounds: int = 5,
) -> float:
    """Return the median of all queries, after one round that does not count."""
    taken = []
    for number in range(rounds + 1):
        for query in QUERIES:
            began = time.perf_counter()
            do(query)
            seconds = time.perf_counter() - began
            if number:
                taken.append(1000 * seconds)
    return statistics.median(taken)


def draw_images(folder: Path) -> list[Path]:
    """Draw a few different images."""
    files = []
    n_codes = len(CODES)
    for number in range(IMAGES):
        code = CODES[number % n_codes]
        drawn = render_lesion(code, number, 600)
        square = Image.fromarray(drawn)
        image = square.crop((0, 75, 600, 525))
        file = folder / f"{number}.jpg"
        image.save(file, quality=90)
        files.append(file)
    return files


def link_images(folder: Path, names: "pd.Series[str]") -> None:
    """Write a link to one of a few drawn images for each name."""
    inputs = folder / "ISIC_2019_Training_Input"
    inputs.mkdir(parents=True)
    drawn = draw_images(folder)
    for row, name in enumerate(names):
        source = drawn[row % IMAGES]
        link = inputs / f"{name}.jpg"
        os.link(source, link)


def write_dataset(folder: Path, table: pd.DataFrame) -> None:
    """Write a data set of ISIC's layout: a link to one of a few images for each row."""
    link_images(folder, table["image"])
    labels = table["diagnosis"].fillna(UNKNOWN)
    truth = table[["image"]].copy()
    for code in (*CODES, UNKNOWN):
        has_code = labels == code
        truth[code] = has_code * 1.0
    truth_file = folder / "ISIC_2019_Training_GroundTruth.csv"
    truth.to_csv(truth_file, index=False)
    columns = [
        "image",
        "age_approx",
        "anatom_site_general",
        "sex",
    ]
    facts = table[columns].assign(lesion_id="")
    # ISIC has ages in steps of five years.
    ages_years = facts["age_approx"] // 5 * 5
    facts["age_approx"] = ages_years.astype(int)
    facts_file = folder / "ISIC_2019_Training_Metadata.csv"
    facts.to_csv(facts_file, index=False)


def click(tab: Page, button: str, look_s: float = 0.0) -> float:
    """Wait, click a button of the page, and return the milliseconds until other tiles are drawn."""
    time.sleep(look_s)
    taken: float = tab.evaluate(
        """([name]) => new Promise((done) => {
            const nameOf = (button) => button.ariaLabel ?? button.innerText.replace(/\\s+/g, ' ');
            const buttons = [...document.querySelectorAll('button')];
            const button = buttons.find((button) => nameOf(button).includes(name));
            const about = () => document.querySelector('.tiles-about')?.textContent;
            const first = () => document.querySelector('.tiles-tile')?.dataset.image;
            const before = [about(), first()], began = performance.now();
            const look = () => {
                const pictures = [...document.querySelectorAll('.tiles-picture')];
                const isDrawn = (picture) => picture.complete && picture.naturalWidth;
                const drawn = pictures.length && pictures.every(isDrawn);
                const other = about() !== before[0] || first() !== before[1];
                if (!drawn || !other) requestAnimationFrame(look);
                // In the next frame this one has been drawn.
                else requestAnimationFrame(() => done(performance.now() - began));
            };
            button.click();
            requestAnimationFrame(look);
        })""",
        [button],
    )
    return taken


@dataclass(frozen=True)
class Measured:
    """The page: seconds to open, milliseconds of each click, and the server's memory."""

    opened_s: float
    turned_ms: list[float]
    hasty_ms: list[float]
    facet_ms: list[float]
    before_mb: float
    after_mb: float


def measure_page(browser: Browser, clicks: int) -> Measured:
    """Open the page of the data set in CADLIB_DATA, and click."""
    with serving(ROOT) as (address, process):
        tab = browser.new_context(viewport=VIEWPORT).new_page()
        tab.set_default_timeout(1_200_000)
        began = time.perf_counter()
        tab.goto(f"{address}/dataset")
        images = tab.locator(".tiles-picture")
        images.first.wait_for()
        opened_s = time.perf_counter() - began
        before_mb = resident_mb(process)
        print(f"opened after {opened_s:.0f} s: {before_mb:.0f} MB", flush=True)
        turned_ms = [click(tab, "Next page", LOOK_S) for _ in range(clicks)]
        hasty_ms = [click(tab, "Next page") for _ in range(clicks)]
        # The second click on a code removes it from the choice.
        codes = (*CODES, *CODES)
        facet_ms = [click(tab, f"{code} ", LOOK_S) for code in codes]
        after_mb = resident_mb(process)
        return Measured(
            opened_s=opened_s,
            turned_ms=turned_ms,
            hasty_ms=hasty_ms,
            facet_ms=facet_ms,
            before_mb=before_mb,
            after_mb=after_mb,
        )


def as_json(
    ours_ms: float,
    peer_ms: float,
    page: Measured,
) -> dict[str, float]:
    """Return the results of the last line."""
    ratio = ours_ms / peer_ms
    turned_ms = statistics.median(page.turned_ms)
    slowest_ms = max(page.turned_ms)
    hasty_ms = statistics.median(page.hasty_ms)
    facet_ms = statistics.median(page.facet_ms)
    grown_mb = page.after_mb - page.before_mb
    return {
        "query_ms": round(ours_ms, 1),
        "query_over_pandas": round(ratio, 3),
        "page_ms": round(turned_ms, 1),
        "page_slowest_ms": round(slowest_ms, 1),
        "page_in_haste_ms": round(hasty_ms, 1),
        "facet_ms": round(facet_ms, 1),
        "opened_s": round(page.opened_s, 1),
        "memory_mb": round(page.before_mb),
        "memory_grew_mb": round(grown_mb),
    }


def measure_in_browser(table: pd.DataFrame, clicks: int) -> Measured:
    """Write a data set with the rows of a table, and measure its page in Chromium."""
    with TemporaryDirectory() as place, sync_playwright() as playwright:
        folder = Path(place, "data")
        write_dataset(folder, table)
        os.environ["CADLIB_DATA"] = str(folder)
        cache = Path(place, "cache")
        os.environ["CADLIB_CACHE"] = str(cache)
        browser = playwright.chromium.launch(
            executable_path=chromium(),
            args=list(FLAGS),
        )
        page = measure_page(browser, clicks)
        browser.close()
    return page


def read_options() -> argparse.Namespace:
    """Read the command line."""
    summary_line = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary_line)
    parser.add_argument("--images", type=int, default=500_000)
    parser.add_argument(
        "--clicks",
        type=int,
        default=40,
        help="pages turned (default: 40)",
    )
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = read_options()
    table = drawn_table(options.images)
    catalogue = Catalogue(table, FACETS, NUMBERS)
    ours_ms = median_ms(catalogue.ask)
    peer_ms = median_ms(lambda query: ask_pandas(table, query), 2)
    n_rows = len(table)
    times = f"a query takes {ours_ms:.1f} ms, with pandas {peer_ms:.1f} ms"
    print(f"{n_rows:,} rows: {times}", flush=True)
    page = measure_in_browser(table, options.clicks)
    results = as_json(ours_ms, peer_ms, page)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
