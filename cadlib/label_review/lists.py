"""The lists as a table, as CSV, and kept on disk for who shows them."""

import hashlib
import json
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import NamedTemporaryFile

import pandas as pd

from cadlib.data.dataset import Dataset
from cadlib.files.cache import cache_dir, keep_by, standing
from cadlib.files.spreadsheets import safe_table
from cadlib.metrics.partial_labels import label_words

KINDS = {
    "doubted labels": (
        "Diagnoses that are improbable to a classifier that did not see them. Many are right: a rare or a difficult "
        "picture is doubted just so. Read it again; change nothing on this ground alone."
    ),
    "near-duplicates": (
        "One picture under two ids, or two of one lesion taken alike. In two splits they leak; in one they count twice."
    ),
    "contradictions": (
        "One picture or one lesion with two diagnoses: a label is wrong, or the pictures are not of one lesion."
    ),
    "unreadable files": "Files that cannot be read; they are left out of everything.",
}
"""Kind of finding -> what it is, and what follows from it and what does not."""
COLUMNS = {
    "kind": "str", "image": "str", "other_image": "str", "diagnosis": "str", "other_diagnosis": "str",
    "suggested": "str", "score": "float64", "why": "str",
}  # fmt: skip
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Suspects:
    """What of a data set a person should look at again.

    `table` has a row a finding in COLUMNS, by KINDS and the worst first. `other_image` and `other_diagnosis` are those
    of a pair; `suggested` is the diagnosis that fits better; what there is none of is missing. `score`, 0 to 1, tells
    how bad a finding is among those of its kind: of a label, how far it is doubted; of a pair, how surely it is one
    picture or lesion. `judged` of the `images` had a label that was held against probabilities. `verdicts.beside` adds
    what a reader said.
    """

    dataset: str
    model_id: str
    created: str
    images: int
    judged: int
    table: pd.DataFrame

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of findings of each kind, also of those without one."""
        return {kind: int((self.table["kind"] == kind).sum()) for kind in KINDS}

    @property
    def done(self) -> dict[str, int]:
        """Return how many findings of each kind have a verdict, of lists that have verdicts beside them."""
        said = self.table["kind"][self.table["verdict"].notna()]
        return {kind: int((said == kind).sum()) for kind in KINDS}

    def of(self, kind: str) -> pd.DataFrame:
        """Return the findings of a kind, the worst first, numbered from 0."""
        return self.table[self.table["kind"] == kind].reset_index(drop=True)

    def to_csv(self) -> str:
        """Return all findings as the text of a CSV file."""
        text: str = safe_table(self.table).to_csv(
            index=False, lineterminator="\n", float_format="%.4f"
        )
        return text

    def __str__(self) -> str:
        lines = [
            f"{self.dataset}: {self.images:,} images, {self.judged:,} labels judged with {self.model_id}"
        ]
        done = self.done if "verdict" in self.table else {}
        for kind, count in self.counts.items():
            said = f", {done[kind]:,} done" if done else ""
            lines += [f"{count:>8,}  {kind}{said}", f"{'':>8}  {KINDS[kind]}"]
        return "\n".join(lines)


def findings(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Return rows with some of COLUMNS as a table of all, by kind and the worst first."""
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    place = table["kind"].map(list(KINDS).index)
    return table.assign(place=place).sort_values(
        ["place", "score", "image"], ascending=[True, False, True], ignore_index=True
    )[list(COLUMNS)]


def keep(suspects: Suspects, dataset: Dataset) -> None:
    """Write the lists into the cache folder."""
    facts = {
        name: getattr(suspects, name)
        for name in ("dataset", "model_id", "created", "images", "judged")
    }
    content = {"format": _FORMAT, **facts, "table": suspects.table.to_csv(index=False)}

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as aside:
            json.dump(content, aside)
        Path(aside.name).replace(path)

    keep_by(kept_at(dataset, suspects.model_id), write)


def kept(dataset: Dataset, model_id: str) -> Suspects | None:
    """Return the lists that were made of this data set as it is, with this model; None where none were."""
    try:
        raw = json.loads(standing(kept_at(dataset, model_id)).read_text(encoding="utf-8"))
        if raw.pop("format") != _FORMAT:
            return None
        table = pd.read_csv(StringIO(raw.pop("table")), dtype=COLUMNS)
        return Suspects(table=table, **raw)
    except OSError:  # none were made, or the cache cannot be read
        return None


def kept_at(dataset: Dataset, model_id: str) -> Path:
    """Return where the lists lie: another file as soon as an image, a label or a lesion is another."""
    known = dataset.table[
        ["image", "path", "diagnosis", "lesion_id", "lesion_group", "width_px", "height_px"]
    ]
    known = known.assign(diagnosis=label_words(dataset.table))
    digest = hashlib.sha256(model_id.encode())
    digest.update(pd.util.hash_pandas_object(known, index=False).to_numpy().tobytes())
    return cache_dir() / "suspects" / f"{digest.hexdigest()[:32]}.json"
