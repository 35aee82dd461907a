"""How long a click takes in a data set of half a million images, against pandas, and whether memory stays flat.

    python benchmarks/gallery.py [--images N] [--clicks N]

First the catalogue alone, on a drawn table: some queries of facets, ranges, text and order, with the counts of every
facet; the peer does the same by pandas (masks, value_counts, sort_values). Then the page: a data set in ISIC's layout
whose pictures are links to a few drawn ones is opened in a Chromium of this system, and its pages are turned and its
facets chosen; a click is done when a frame shows the new tiles with their pictures, which are made on demand. A page is
turned after a look of half a second, in which the next one is made ready, and in haste, with no look at all. Prints the
resident memory of the server before and after. The last line is one JSON object: medians in ms, MB, and the ratio to
pandas.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks.app import FLAGS, ROOT, chromium, resident_mb, serving
from cadlib.evaluation.catalogue import FACETS, NUMBERS, Catalogue, Query
from cadlib.images.patient import SEXES, SITES
from cadlib.images.synthetic import render_lesion
from cadlib.taxonomy import CODES, UNKNOWN

PICTURES = 64
LOOK_S = 0.5
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
    text = {
        "diagnosis": CODES, "malignancy": ("malignant", "benign"), "said": CODES,
        "verdict": ("right", "wrong"), "sex": SEXES, "anatom_site_general": SITES,
        "archive": ("HAM10000", "BCN20000", "MSK"), "split": ("train", "validation", "test"),
    }  # fmt: skip
    columns = {
        name: pd.array(rng.choice([*values, None], n), "str") for name, values in text.items()
    }
    numbers = {name: rng.random(n) * (90 if name == "age_approx" else 1) for name in NUMBERS}
    return pd.DataFrame({"image": [f"ISIC_{row:07d}" for row in range(n)], **columns, **numbers})


def by_pandas(table: pd.DataFrame, query: Query) -> tuple[pd.DataFrame, dict[str, dict[str, int]]]:
    """Answer a query as one would without a catalogue."""
    passes = {name: table[name].isin(values) for name, values in query.chosen.items()}
    passes |= {name: table[name].between(*ends) for name, ends in query.ranges.items()}
    passes["image"] = table["image"].str.contains(query.text, case=False, regex=False)

    def passing(but: str = "") -> "pd.Series[bool]":
        found = pd.Series(True, table.index)
        for name, mask in passes.items():
            found = found if name == but else found & mask
        return found

    counts = {
        name: table.loc[passing(name), name].value_counts(dropna=False).to_dict() for name in FACETS
    }
    found = table[passing()]
    return (found.sort_values(query.order, ascending=False) if query.order else found), counts


def median_ms(do: Callable[[Query], object], rounds: int = 5) -> float:
    """Return the median of all queries, after one round that does not count."""
    taken = []
    for number in range(rounds + 1):
        for query in QUERIES:
            began = time.perf_counter()
            do(query)
            if number:
                taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def write_dataset(folder: Path, table: pd.DataFrame) -> None:
    """Write a data set of ISIC's layout: a link to one of a few pictures for each row."""
    inputs, drawn = folder / "ISIC_2019_Training_Input", []
    inputs.mkdir(parents=True)
    for number in range(PICTURES):
        drawn.append(folder / f"{number}.jpg")
        picture = Image.fromarray(render_lesion(CODES[number % len(CODES)], number, 600)).crop(
            (0, 75, 600, 525)
        )
        picture.save(drawn[-1], quality=90)
    for row, image in enumerate(table["image"]):
        os.link(drawn[row % PICTURES], inputs / f"{image}.jpg")
    labels = table["diagnosis"].fillna(UNKNOWN)
    truth = pd.DataFrame(
        {"image": table["image"], **{code: (labels == code) * 1.0 for code in (*CODES, UNKNOWN)}}
    )
    truth.to_csv(folder / "ISIC_2019_Training_GroundTruth.csv", index=False)
    facts = table[["image", "age_approx", "anatom_site_general", "sex"]].assign(lesion_id="")
    facts["age_approx"] = (facts["age_approx"] // 5 * 5).astype(int)
    facts.to_csv(folder / "ISIC_2019_Training_Metadata.csv", index=False)


def click(tab: Page, button: str, look_s: float = 0.0) -> float:
    """Look, click a button of the page and return the milliseconds until a frame shows other tiles, drawn."""
    time.sleep(look_s)
    taken: float = tab.evaluate(
        """([name]) => new Promise((done) => {
            const called = (button) => button.ariaLabel ?? button.innerText.replace(/\\s+/g, ' ');
            const button = [...document.querySelectorAll('button')].find((button) => called(button).includes(name));
            const about = () => document.querySelector('.tiles-about')?.textContent;
            const first = () => document.querySelector('.tiles-tile')?.dataset.image;
            const before = [about(), first()], began = performance.now();
            const look = () => {
                const pictures = [...document.querySelectorAll('.tiles-picture')];
                const drawn = pictures.length && pictures.every((one) => one.complete && one.naturalWidth);
                const other = about() !== before[0] || first() !== before[1];
                if (!drawn || !other) requestAnimationFrame(look);
                else requestAnimationFrame(() => done(performance.now() - began));  // the frame before has been drawn
            };
            button.click();
            requestAnimationFrame(look);
        })""",
        [button],
    )
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=500_000)
    parser.add_argument("--clicks", type=int, default=40, help="pages turned (default: 40)")
    options = parser.parse_args()
    table = drawn_table(options.images)
    catalogue = Catalogue(table, FACETS, NUMBERS)
    ours, peer = median_ms(catalogue.ask), median_ms(lambda query: by_pandas(table, query), 2)
    print(f"{len(table):,} rows: a query takes {ours:.1f} ms, by pandas {peer:.1f} ms", flush=True)
    with TemporaryDirectory() as place, sync_playwright() as playwright:
        write_dataset(Path(place, "data"), table)
        os.environ |= {
            "CADLIB_DATA": str(Path(place, "data")),
            "CADLIB_CACHE": str(Path(place, "cache")),
        }
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        with serving(ROOT) as (address, process):
            tab = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
            tab.set_default_timeout(1_200_000)
            began = time.perf_counter()
            tab.goto(f"{address}/dataset")
            tab.locator(".tiles-picture").first.wait_for()
            opened_s, before_mb = time.perf_counter() - began, resident_mb(process)
            print(f"opened after {opened_s:.0f} s: {before_mb:.0f} MB", flush=True)
            turned = [click(tab, "Next page", LOOK_S) for _ in range(options.clicks)]
            hasty = [click(tab, "Next page") for _ in range(options.clicks)]
            chosen = [
                click(tab, f"{code} ", LOOK_S) for code in (*CODES, *CODES)
            ]  # the second time, let go again
            after_mb = resident_mb(process)
        browser.close()
    found = {
        "query_ms": round(ours, 1),
        "query_over_pandas": round(ours / peer, 3),
        "page_ms": round(statistics.median(turned), 1),
        "page_slowest_ms": round(max(turned), 1),
        "page_in_haste_ms": round(statistics.median(hasty), 1),
        "facet_ms": round(statistics.median(chosen), 1),
        "opened_s": round(opened_s, 1),
        "memory_mb": round(before_mb),
        "memory_grew_mb": round(after_mb - before_mb),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
