"""Measures the pages of the case store with many cases.

A store is filled with cases that share a few synthetic images. Then these are timed:

- the Work list page, as Streamlit runs it, with each order and a filter, against its bare queries;
- opening a case on the Diagnose page, against its bare assessment;
- the Diagnose page with a store, against the same page without one.

    python -m benchmarks.case_store --cases 5000 --images 20000
    python -m benchmarks.case_store --database postgresql+psycopg://USER@HOST/EMPTY

The last line is one JSON object: seconds, medians of `--runs`, and the differences to the peers.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np
from sqlalchemy import Connection, insert
from streamlit.testing.v1 import AppTest

from cadlib.assessment import assess
from cadlib.cases import database, place, queries, schema
from cadlib.cases.audit_log import canonical
from cadlib.cases.records import STATES
from cadlib.cases.store import CaseStore
from cadlib.cases.stored_file import StoredFile
from cadlib.cases.work_list import ORDERS, count_by_state, work_list
from cadlib.images import read_image
from cadlib.images.synthetic import SyntheticLesion, demo_lesions
from cadlib.model.model import Model
from cadlib.ui.stored_list import PAGE_SIZE

ROOT = Path(__file__).parent.parent
START = datetime(2026, 1, 1, tzinfo=UTC)
N_PICTURES = 8
_CHUNK = 2000


class Rows:
    """Collects rows by table, and numbers them as the audit log does."""

    def __init__(self) -> None:
        self.by_table: dict[str, list[dict[str, Any]]] = {}
        self.number = 0

    def add(self, table: str, **values: Any) -> None:
        """Add a row with the next number of an entry."""
        self.number += 1
        recorded_at = START + timedelta(seconds=self.number)
        row = {**values, "entry": self.number, "recorded_at": recorded_at}
        self.by_table.setdefault(table, []).append(row)

    def write(self, connection: Connection) -> None:
        """Insert all rows; those that others name come first."""
        for table in schema.metadata.sorted_tables:
            rows = self.by_table.get(table.name, [])
            for first in range(0, len(rows), _CHUNK):
                connection.execute(insert(table), rows[first : first + _CHUNK])


def fill(store: CaseStore, model: Model, n_cases: int, n_images: int) -> None:
    """Fill a store with patients, each with one lesion and one visit, and their images.

    The rows are written without the audit log, which no page reads.
    """
    rng = np.random.default_rng(0)
    samples = [Sample.of(store, model, lesion) for lesion in demo_lesions()[:N_PICTURES]]
    rows = Rows()
    cases = [add_case(rows, number) for number in range(n_cases)]
    for number in range(n_images):
        sample = samples[number % len(samples)]
        image_id = add_image(rows, cases[number % n_cases], sample.file)
        state = STATES[int(rng.integers(len(STATES)))]
        rows.add("states", image_id=image_id, state=state)
        probability = float(rng.random())
        add_assessment(rows, image_id, model, probability, sample.content)
    with database.writing(store.engine) as connection:
        rows.write(connection)


@dataclass(frozen=True, eq=False)
class Sample:
    """A stored image that many cases share, and its assessment as JSON."""

    file: StoredFile
    content: str

    @classmethod
    def of(cls, store: CaseStore, model: Model, lesion: SyntheticLesion) -> Self:
        """Store and assess a synthetic lesion."""
        picture = read_image(lesion.png())
        assessment = assess(model, picture, with_heatmap=False)
        return cls(store.store_file(picture), canonical(assessment.to_json()))


def add_image(rows: Rows, case: tuple[str, str], file: StoredFile) -> str:
    """Add an image of a lesion at a visit; return its id."""
    image_id = str(uuid4())
    lesion_id, visit_id = case
    source = file.source
    rows.add(
        "images",
        id=image_id,
        sha256=file.sha256,
        source_sha256=source.sha256,
        source_format="PNG",
        width_px=source.width_px,
        height_px=source.height_px,
        file_width_px=source.width_px,
        file_height_px=source.height_px,
        red_blue_swapped=False,
        notes="[]",
    )
    rows.add("image_places", image_id=image_id, lesion_id=lesion_id, visit_id=visit_id)
    return image_id


def add_assessment(
    rows: Rows,
    image_id: str,
    model: Model,
    probability: float,
    content: str,
) -> None:
    """Add an assessment of an image with a malignant probability."""
    record = model.record
    rows.add(
        "assessments",
        id=str(uuid4()),
        image_id=image_id,
        model_name=record.name,
        model_version=record.version,
        model_id=record.model_id,
        operating_point="balanced",
        threshold=0.22,
        action="refer",
        diagnosis="MEL",
        malignant_probability=probability,
        malignant_low=None,
        malignant_high=None,
        borderline=False,
        interpretable=True,
        content=content,
    )


def add_case(rows: Rows, number: int) -> tuple[str, str]:
    """Add a patient with a lesion and a visit; return the ids of both."""
    patient_id = str(uuid4())
    lesion_id = str(uuid4())
    visit_id = str(uuid4())
    pseudonym = f"P-{number:05}"
    rows.add("patients", id=patient_id)
    rows.add("pseudonyms", pseudonym=pseudonym, patient_id=patient_id)
    rows.add(
        "patient_versions",
        patient_id=patient_id,
        pseudonym=pseudonym,
        sex=None,
        birth_year=None,
        note="",
    )
    rows.add("lesions", id=lesion_id, patient_id=patient_id)
    rows.add(
        "lesion_versions",
        lesion_id=lesion_id,
        label="L1",
        site=None,
        body_view=None,
        body_x=None,
        body_y=None,
        note="",
    )
    rows.add("visits", id=visit_id, patient_id=patient_id)
    rows.add("visit_versions", visit_id=visit_id, day=START.date(), note="")
    return lesion_id, visit_id


def median_s(work: Callable[[], object], runs: int) -> float:
    """Return the median seconds of a piece of work, after one run that is not counted."""
    work()
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def bare_list(store: CaseStore, order: Any, text: str) -> None:
    """Run the queries of the Work list page."""
    with store.read() as connection:
        count_by_state(connection, text)
        work_list(connection, order, text=text, limit=PAGE_SIZE)


def page(path: str) -> AppTest:
    """Return a page as Streamlit runs it."""
    test = AppTest.from_file(str(ROOT / "pages" / path), default_timeout=120)
    test.session_state["menu"] = True
    return test


def run(test: AppTest) -> None:
    """Run a page; raise RuntimeError for one that fails."""
    test.run()
    if test.exception:
        raise RuntimeError(test.exception[0].value)


def measure_list(store: CaseStore, runs: int) -> dict[str, dict[str, float]]:
    """Return the seconds of the page and of its bare queries, by order and with a filter."""
    results = {}
    for name, order, text in [
        *((order, order, "") for order in ORDERS),
        ("filter", "risk", "P-04"),
    ]:
        test = page("work_list.py")
        run(test)
        test.selectbox(key="work-order").set_value(order)
        test.text_input(key="work-text").set_value(text)
        page_s = median_s(lambda test=test: run(test), runs)
        bare_s = median_s(lambda order=order, text=text: bare_list(store, order, text), runs)
        results[name] = {"page_s": page_s, "bare_s": bare_s, "above_s": page_s - bare_s}
    return results


def measure_open(store: CaseStore, model: Model, runs: int) -> dict[str, float]:
    """Return the seconds to read a whole case and its image, and those of the assessment."""
    with store.read() as connection:
        [item] = work_list(connection, limit=1, offset=100)

    def open_case() -> None:
        with store.read() as connection:
            case = queries.case_file(connection, item.image_id)
        image = store.lesion_image(case.image)
        assess(model, image, with_heatmap=False)

    with store.read() as connection:
        stored = queries.image(connection, item.image_id)
    image = store.lesion_image(stored)
    open_s = median_s(open_case, runs)
    bare_s = median_s(lambda: assess(model, image, with_heatmap=False), runs)
    return {"open_s": open_s, "bare_s": bare_s, "above_s": open_s - bare_s}


@contextmanager
def without_store(folder: Path) -> Iterator[None]:
    """Let the pages find no store."""
    before = os.environ[place.URL_VARIABLE]
    os.environ[place.URL_VARIABLE] = f"sqlite:///{folder / 'none.sqlite'}"
    yield
    os.environ[place.URL_VARIABLE] = before


def measure_diagnose(folder: Path, runs: int) -> dict[str, float]:
    """Return the seconds of the Diagnose page with one image, with and without a store."""

    def seconds() -> float:
        test = page("diagnose.py")
        run(test)
        test.button(key="synthetic").click()
        run(test)
        return median_s(lambda: run(test), runs)

    with_store_s = seconds()
    with without_store(folder):
        without_s = seconds()
    return {
        "with_store_s": with_store_s,
        "without_s": without_s,
        "ratio": with_store_s / without_s,
    }


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Fill a store in a folder, or the one that is named, and measure it."""
    url = options.database or f"sqlite:///{folder / 'cases.sqlite'}"
    os.environ[place.URL_VARIABLE] = url
    os.environ[place.IMAGES_VARIABLE] = str(folder / "images")
    model = Model.load("isic2019")
    with CaseStore.open() as store:
        fill(store, model, options.cases, options.images)
        return {
            "cases": options.cases,
            "images": options.images,
            "work_list": measure_list(store, options.runs),
            "open": measure_open(store, model, options.runs),
            "diagnose": measure_diagnose(folder, options.runs),
        }


def print_results(results: dict[str, Any]) -> None:
    """Print a line for each page, and all results as JSON."""
    for name, values in results["work_list"].items():
        print(f"work list, {name}: {values['page_s']:.3f} s, bare {values['bare_s']:.3f} s")
    opened = results["open"]
    print(f"open a case: {opened['open_s']:.3f} s, bare assessment {opened['bare_s']:.3f} s")
    diagnose = results["diagnose"]
    print(f"diagnose: {diagnose['with_store_s']:.3f} s, without {diagnose['without_s']:.3f} s")
    print(json.dumps(results))


def main() -> None:
    """Measure a store with many cases, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--database", help="URL of an empty database; by default a SQLite file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        results = measure(options, Path(name))
    print_results(results)


if __name__ == "__main__":
    main()
