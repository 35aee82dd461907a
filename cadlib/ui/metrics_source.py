"""Selects the model and the images whose results the Performance page shows.

They are the results saved with the model, or those on a labelled data set, evaluated in the
background.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from cadlib import command_hints, jobs
from cadlib.data.subsets import list_subsets, read_subset
from cadlib.errors import CadError, DatasetInvalid
from cadlib.files.cache import CacheEntry
from cadlib.metrics.image_counts import Counts
from cadlib.metrics.summary_schema import EvaluationMetrics, Split
from cadlib.model import record
from cadlib.model.audit_result import role_of
from cadlib.model.metrics_file import SplitMetrics
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
SPLITS: dict[Split | Literal["all"], str] = {
    "test": "Test split",
    "validation": "Validation split",
    "train": "Training split",
    "all": "All images",
}


@dataclass(frozen=True, eq=False)
class Shown:
    """The results that the page draws, and the images if they were evaluated here.

    `part` names the images of the data set, `role` what they were used for in training, and
    `flattered` is true if the results look better for it. `evaluated` and `data` are the evaluation
    and its data set; `key` names model and images.
    """

    record: ModelRecord
    metrics: EvaluationMetrics
    part: str
    role: str
    flattered: bool
    evaluated: "Evaluated | None" = None
    data: "Dataset | None" = None
    key: str = ""

    @property
    def data_name(self) -> str:
        """Return the name of the data set of the images."""
        return self.metrics.data.name if self.metrics.data else ""

    @property
    def about(self) -> str:
        """Return in Markdown which images these are."""
        images = Counts.of(self.metrics)
        n_lesions = self.metrics.n_lesions
        name = plain(self.data_name)
        counts = f"{images.n:,} labelled images of {n_lesions:,} lesions"
        if images.partial:
            counts += f", {images.diagnosed:,} of them with a diagnosis"
        role = self.role
        if self.flattered:
            role = f":orange[**{self.role}**]"
        return f"on {plain(self.part)} of {name}, {counts}. {role}"


def choose_metrics() -> tuple[str, Shown | None]:
    """Let model and images be selected; return the model's name and what to draw.

    That is None while there is nothing yet. An error with the model or the images is drawn.
    """
    names = record.list_models()
    model_place, images_place, split_place, subset_place = st.columns(4)
    name = model_place.selectbox(
        "Model",
        names,
        names.index(default_model()),
        key="measured-model",
    )
    # The model's own results come first: they need no data set on this machine.
    titles = {OWN: OWN}
    for folder in dataset_folders():
        titles[folder] = Path(folder).name
    images = images_place.selectbox(
        "Images", titles, format_func=titles.__getitem__, key="measured-images"
    )
    try:
        model = record.read_record(record.find_model(name))
        if images == OWN:
            return name, _own(name, model, split_place)
        split = split_place.selectbox(
            "Split", SPLITS, format_func=SPLITS.__getitem__, key="measured-split"
        )
        subset = subset_place.selectbox(
            "Subset", list_subsets(), None, placeholder="none", key="measured-subset"
        )
        # All images are no split of the model.
        split_name = None if split == "all" else split
        data = dataset(images)
        return name, _evaluated(model, data, split_name, subset)
    except CadError as error:
        st.error(plain(str(error)))
        return name, None


def evaluation_of(
    model: ModelRecord, data: "Dataset", part: "Part | None" = None, folder: Path | None = None
) -> "Evaluated | None":
    """Return a model's evaluation on a data set.

    Without one, draw the button that starts it and its progress, and return None. `part` selects
    images of the data set. `folder` is the one that `evaluation_folder` returns; pass it if it is
    at hand, because finding it reads the state of every file.
    """
    # Imported late: pandas takes a third of a second.
    from cadlib.evaluation.cached import evaluation_folder  # noqa: PLC0415

    folder = folder or evaluation_folder(model, data)
    evaluation = find_saved_evaluation(model, data, part, folder)
    if evaluation:
        # The job has done its work, so its progress is not drawn any more.
        jobs.forget(folder.name)
        return evaluation
    if working(jobs.find(folder.name), model.name):
        return None
    pressed = st.button(
        f"Evaluate {len(data.table):,} images",
        icon=":material/play_arrow:",
        type="primary",
        key=f"evaluate-{model.name}",
        help=(
            f"Runs {plain(model.name)} in the background while you use other pages. "
            "The result is saved."
        ),
    )
    if pressed:
        jobs.start(folder.name, _work(folder, model, data))
        # The page is drawn again, with the progress in place of the button.
        st.rerun()
    return None


def find_saved_evaluation(
    model: ModelRecord, data: "Dataset", part: "Part | None" = None, folder: Path | None = None
) -> "Evaluated | None":
    """Return the result of `evaluation_of` if it is saved, else None; draw nothing."""
    # Imported late, as above.
    from cadlib.evaluation.cached import evaluation_folder  # noqa: PLC0415
    from cadlib.evaluation.image_selection import ALL  # noqa: PLC0415

    part = part or ALL
    folder = folder or evaluation_folder(model, data)
    written = _written(folder)
    if not written:
        return None
    return _saved(str(folder), written, part.named, part, model, data)


def _own(name: str, model: ModelRecord, place: Any) -> Shown | None:
    """Return the results saved with a model, of a split that is selected in `place`."""
    metrics = model_metrics(name)
    if metrics is None:
        command = command_hints.evaluate_into(name)
        st.info(f"This model has no saved results. Evaluate it: `{command}`.")
        return None
    measured: SplitMetrics = metrics
    if metrics.validation is not None:
        splits = {"test": metrics, "validation": metrics.validation}
        selected = place.segmented_control(
            "Split",
            [*splits],
            default="test",
            key="split",
            required=True,
        )
        measured = splits[selected]
    split = measured.data.split
    role, flattered = role_of(split, cross_validated=model.cross_validated)
    return Shown(model, measured, f"the {split} split", role, flattered)


def _evaluated(
    model: ModelRecord, data: "Dataset", split: Split | None, subset: str | None
) -> Shown | None:
    """Return a model's results on a split and a subset of a data set, None while there are none."""
    # Imported late, as above.
    from cadlib.evaluation.image_selection import Part  # noqa: PLC0415

    part = Part(split, read_subset(subset) if subset else None)
    folder = record.find_model(model.name)
    images = part.of(folder, model, data)
    evaluation = evaluation_of(model, images, part)
    if evaluation is None:
        return None
    role, flattered = part.role(folder, model, images)
    return Shown(
        record=model,
        metrics=evaluation.metrics,
        part=part.named,
        role=role,
        flattered=flattered,
        evaluated=evaluation,
        data=images,
        key=evaluation.name,
    )


def _work(folder: Path, model: ModelRecord, data: "Dataset") -> "Callable[[Progress], None]":
    def work(progress: "Progress") -> None:
        from cadlib.evaluation.cached import make_evaluation  # noqa: PLC0415 - as above

        loaded = model_beside(model.name, model.model_id)
        make_evaluation(folder, loaded, data, progress)

    return work


def _written(folder: Path) -> float:
    """Return when the evaluation in a folder was written, 0 where there is none."""
    try:
        return CacheEntry(folder / record.METRICS_FILE).place.stat().st_mtime
    except OSError:
        return 0.0


# Cached by folder, time and name of the images: a new time means a new evaluation, and the same
# images under another name have the same one.
@st.cache_resource(max_entries=4, show_spinner=False)
def _saved(
    folder: str,
    written: float,  # noqa: ARG001
    named: str,  # noqa: ARG001
    _part: "Part",
    _model: ModelRecord,
    _data: "Dataset",
) -> "Evaluated":
    from cadlib.evaluation.cached import read_evaluation  # noqa: PLC0415 - as above

    evaluation = read_evaluation(Path(folder), _model, _data, _part)
    if evaluation is None:
        raise DatasetInvalid(
            f"Expected an evaluation in {folder}, but found none. Evaluate the model again."
        )
    return evaluation
