"""Holds the lists of findings as table, as CSV and cached."""

import json
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pandas as pd

from cadlib.data.dataset import Dataset
from cadlib.files.cache import Cache, CacheEntry
from cadlib.files.spreadsheets import safe_table
from cadlib.metrics.partial_labels import label_words

KINDS = {
    "doubted labels": (
        "A classifier that was not trained on these images finds their labels improbable. "
        "Many of the labels are right, because rare and difficult images are listed too. "
        "Review the image; do not change a label for this reason alone."
    ),
    "near-duplicates": (
        "The same image with two ids, or two almost equal images of one lesion. "
        "In two splits they are a leak; in one split they count twice."
    ),
    "contradictions": (
        "One image or one lesion with two diagnoses: "
        "one label is wrong, or the images do not show the same lesion."
    ),
    "unreadable files": "Files that cannot be read. They are excluded from all results.",
}
"""Kind of finding -> what it is, and what can and cannot be concluded from it."""
COLUMNS = {
    "kind": "str",
    "image": "str",
    "other_image": "str",
    "diagnosis": "str",
    "other_diagnosis": "str",
    "suggested": "str",
    "score": "float64",
    "why": "str",
}
_FORMAT = 2
"""Part of a file's name: raise it when what is stored changes."""
_LISTS = Cache("suspects", ".json", private=True)


@dataclass(frozen=True, eq=False)
class Suspects:
    """The findings that a person should review in a data set.

    `table` has one row a finding with COLUMNS, sorted by KINDS and the worst first. `other_image`
    and `other_diagnosis` are those of a pair; `suggested` is the diagnosis that fits better; a
    value that does not exist is missing. `score`, 0 to 1, is how bad a finding is among those of
    its kind: for a label, how strongly it is doubted; for a pair, how surely it is one image or
    lesion. `judged` is the number of labels, of the `images`, that were compared with
    probabilities. `verdicts.beside` adds the verdicts of a reader.
    """

    dataset: str
    model_id: str
    created: str
    images: int
    judged: int
    table: pd.DataFrame

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of findings of each kind, 0 included."""
        return _count_kinds(self.table)

    @property
    def done(self) -> dict[str, int]:
        """Return the number of findings of each kind with a verdict; the table has verdicts."""
        has_verdict = self.table["verdict"].notna()
        done = self.table[has_verdict]
        return _count_kinds(done)

    def of(self, kind: str) -> pd.DataFrame:
        """Return the findings of a kind, the worst first, numbered from 0."""
        is_kind = self.table["kind"] == kind
        return self.table[is_kind].reset_index(drop=True)

    def to_csv(self) -> str:
        """Return all findings as the text of a CSV file."""
        text: str = safe_table(self.table).to_csv(
            index=False,
            lineterminator="\n",
            float_format="%.4f",
        )
        return text

    def __str__(self) -> str:
        counts = f"{self.images:,} images, {self.judged:,} labels judged with {self.model_id}"
        lines = [f"{self.dataset}: {counts}"]
        done = self.done if "verdict" in self.table else {}
        for kind, count in self.counts.items():
            line = f"{count:>8,}  {kind}"
            if done:
                line += f", {done[kind]:,} done"
            lines.append(line)
            lines.append(f"{'':>8}  {KINDS[kind]}")
        return "\n".join(lines)


def _count_kinds(table: pd.DataFrame) -> dict[str, int]:
    counts = {}
    for kind in KINDS:
        is_kind = table["kind"] == kind
        counts[kind] = int(is_kind.sum())
    return counts


def findings(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Return rows with some of COLUMNS as a table with all, by kind and the worst first."""
    columns = list(COLUMNS)
    table = pd.DataFrame(rows, columns=columns)
    table = table.astype(COLUMNS)
    kinds = list(KINDS)
    place_of_kind = table["kind"].map(kinds.index)
    table = table.assign(place=place_of_kind)
    # Ties are broken by the image, so that the order does not depend on the search.
    table = table.sort_values(
        ["place", "score", "image"],
        ascending=[True, False, True],
        ignore_index=True,
    )
    return table[columns]


def keep(suspects: Suspects, dataset: Dataset) -> None:
    """Write the lists into the cache."""
    content = {
        "dataset": suspects.dataset,
        "model_id": suspects.model_id,
        "created": suspects.created,
        "images": suspects.images,
        "judged": suspects.judged,
        "table": suspects.table.to_csv(index=False),
    }
    text = json.dumps(content)
    entry = _entry(dataset, suspects.model_id)
    entry.write(lambda file: file.write(text.encode()))


def kept(dataset: Dataset, model_id: str) -> Suspects | None:
    """Return the cached lists of this data set with this model, None if there are none.

    Lists of the data set before a change do not count.
    """
    return _entry(dataset, model_id).read(_read)


def kept_at(dataset: Dataset, model_id: str) -> Path:
    """Return the path of the lists, which changes with each image, label and lesion."""
    return _entry(dataset, model_id).path


def _read(place: Path) -> Suspects:
    text = place.read_text(encoding="utf-8")
    content = json.loads(text)
    csv = StringIO(content.pop("table"))
    table = pd.read_csv(csv, dtype=COLUMNS)
    return Suspects(table=table, **content)


def _entry(dataset: Dataset, model_id: str) -> CacheEntry:
    # Other columns, such as age, do not change what is found.
    names = [
        "image",
        "path",
        "diagnosis",
        "lesion_id",
        "lesion_group",
        "width_px",
        "height_px",
    ]
    columns = dataset.table[names]
    # An image without a diagnosis may have the label malignant or benign.
    columns = columns.assign(diagnosis=label_words(dataset.table))
    row_hashes = pd.util.hash_pandas_object(columns, index=False)
    rows = row_hashes.to_numpy().tobytes()
    return _LISTS.entry(_FORMAT, model_id, rows)
