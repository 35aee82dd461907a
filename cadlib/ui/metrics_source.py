"""Whose figures, on which images: the model's own, or those of any labelled set, worked out in the background."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from cadlib import command_hints, jobs
from cadlib.data.subsets import list_subsets, read_subset
from cadlib.errors import CadError, DatasetInvalid
from cadlib.files.cache import standing
from cadlib.metrics.image_counts import Counts
from cadlib.model import record
from cadlib.model.audit_result import role_of
from cadlib.model.record import ModelRecord
from cadlib.ui.datasets import dataset, dataset_folders
from cadlib.ui.models import default_model, model_beside, model_metrics
from cadlib.ui.text import plain
from cadlib.ui.working import working

if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset
    from cadlib.evaluation.cached import Evaluated
    from cadlib.evaluation.image_selection import Part
    from cadlib.progress import Progress

OWN = "Model's own results"
SPLITS = {
    "test": "Test split",
    "validation": "Validation split",
    "train": "Training split",
    "all": "All images",
}


@dataclass(frozen=True, eq=False)
class Shown:
    """What the page draws: the figures of a model on some images, and the images where they were evaluated here.

    `part` says which images of the data set these are, `role` what part they had in training, `flattered` whether the
    figures look better for it. `data` is what they were evaluated on, `key` names model and images.
    """

    record: ModelRecord
    figures: dict[str, Any]
    part: str
    role: str
    flattered: bool
    evaluated: "Evaluated | None" = None
    data: "Dataset | None" = None
    key: str = ""

    @property
    def about(self) -> str:
        """Progress in Markdown which images these are."""
        found, role = self.figures, f":orange[**{self.role}**]" if self.flattered else self.role
        images = Counts.of(found)
        counts = f"{images.n:,} labelled images of {found['n_lesions']:,} lesions"
        counts += f", {images.diagnosed:,} of them with a diagnosis" * images.partial
        return f"on {plain(self.part)} of {plain(found['data']['name'])}, {counts}. {role}"


def choose_figures() -> tuple[str, Shown | None]:
    """Let model and images be chosen; return the model's name and what to draw, None while there is nothing yet.

    What is wrong with either is said on the page.
    """
    names = record.list_models()
    models, images, split, subset = st.columns(4)
    name = models.selectbox("Model", names, names.index(default_model()), key="measured-model")
    folders = {OWN: OWN, **{folder: Path(folder).name for folder in dataset_folders()}}
    chosen = images.selectbox(
        "Images", folders, format_func=lambda folder: folders[folder], key="measured-images"
    )
    try:
        found = record.read_record(record.find_model(name))
        if chosen == OWN:
            return name, _own(name, found, split)
        wanted = split.selectbox(
            "Split", SPLITS, format_func=SPLITS.__getitem__, key="measured-split"
        )
        kept = subset.selectbox(
            "Subset", list_subsets(), None, placeholder="none", key="measured-subset"
        )
        return name, _evaluated(found, dataset(chosen), None if wanted == "all" else wanted, kept)
    except CadError as error:
        st.error(plain(str(error)))
        return name, None


def evaluation_of(
    found: ModelRecord, data: "Dataset", part: "Part | None" = None, folder: Path | None = None
) -> "Evaluated | None":
    """Return what a model said of a set; where nobody asked yet, offer to ask, and draw how far it is meanwhile.

    `part` says which images of a data set these are. `folder` is that of `evaluated.evaluation_folder`, for who knows
    it already: to find it takes a look at every file.
    """
    from cadlib.evaluation.cached import evaluation_folder  # noqa: PLC0415 - pandas takes a third of a second

    folder = folder or evaluation_folder(found, data)
    if kept := kept_evaluation(found, data, part, folder):
        jobs.forget(folder.name)
        return kept
    if working(jobs.find(folder.name), found.name):
        return None
    if st.button(
        f"Evaluate {plain(found.name)} on {len(data.table):,} images", icon=":material/play_arrow:", type="primary",
        key=f"evaluate-{found.name}", help="Runs in the background while you use other pages. The result is saved.",
    ):  # fmt: skip
        jobs.start(folder.name, _work(folder, found, data))
        st.rerun()
    return None


def kept_evaluation(
    found: ModelRecord, data: "Dataset", part: "Part | None" = None, folder: Path | None = None
) -> "Evaluated | None":
    """Return the same where it was worked out before, else None; it draws nothing."""
    from cadlib.evaluation.cached import evaluation_folder  # noqa: PLC0415 - as above
    from cadlib.evaluation.image_selection import ALL  # noqa: PLC0415 - as above

    part, folder = part or ALL, folder or evaluation_folder(found, data)
    written = _written(folder)
    return _kept(str(folder), written, part.named, part, found, data) if written else None


def _own(name: str, found: ModelRecord, place: Any) -> Shown | None:
    measured = model_metrics(name)
    if measured is None:
        st.info(
            f"This model has no saved results. Evaluate it: `{command_hints.evaluate_into(name)}`."
        )
        return None
    if "validation" in measured:
        splits = {"test": measured, "validation": measured["validation"]}
        wanted = place.segmented_control(
            "Split", [*splits], default="test", key="split", required=True
        )
        measured = splits[wanted]
    wanted = measured["data"]["split"]
    return Shown(found, measured, f"the {wanted} split", *role_of(wanted))


def _evaluated(
    found: ModelRecord, data: "Dataset", split: str | None, subset: str | None
) -> Shown | None:
    from cadlib.evaluation.image_selection import Part  # noqa: PLC0415 - pandas takes a third of a second

    part, folder = (
        Part(split, read_subset(subset) if subset else None),
        record.find_model(found.name),
    )
    data = part.of(folder, found, data)
    said = evaluation_of(found, data, part)
    if said is None:
        return None
    return Shown(
        found, said.figures, part.named, *part.role(folder, found, data), said, data, said.name
    )


def _work(folder: Path, found: ModelRecord, data: "Dataset") -> "Callable[[Progress], None]":
    def work(progress: "Progress") -> None:
        from cadlib.evaluation.cached import make_evaluation  # noqa: PLC0415 - as above

        make_evaluation(folder, model_beside(found.name, found.model_id), data, progress)

    return work


def _written(folder: Path) -> float:
    """Return when the evaluation in a folder was written, 0 where there is none."""
    try:
        return standing(folder / record.METRICS_FILE).stat().st_mtime
    except OSError:
        return 0.0


@st.cache_resource(max_entries=4, show_spinner=False)
def _kept(
    folder: str,
    written: float,  # noqa: ARG001 - what was evaluated anew is read anew
    named: str,  # noqa: ARG001 - the same images have one evaluation, whatever they are called
    _part: "Part",
    _found: ModelRecord,
    _data: "Dataset",
) -> "Evaluated":
    from cadlib.evaluation.cached import read_evaluation  # noqa: PLC0415 - as above

    kept = read_evaluation(Path(folder), _found, _data, _part)
    if kept is None:
        raise DatasetInvalid(
            f"Expected an evaluation in {folder}, but found none. Evaluate the model again."
        )
    return kept
