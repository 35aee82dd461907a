"""Whose figures, on which images: the model's own, or those of any labelled set, worked out in the background."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from cadlib import background, record
from cadlib.errors import CadError, DatasetInvalid
from cadlib.record import ModelRecord
from cadlib.subsets import list_subsets, read_subset
from cadlib.ui.datasets import dataset, dataset_folders
from cadlib.ui.models import default_model, model_beside, model_metrics
from cadlib.ui.text import plain
from cadlib.ui.working import working
from cadlib.validation import role_of

if TYPE_CHECKING:
    from cadlib.dataset import Dataset
    from cadlib.duplicates import Say
    from cadlib.evaluated import Evaluated

OWN = "The model's own figures"
SPLITS = ("test", "validation")
WHOLE = ("all", "All images")


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
        """Say in Markdown which images these are."""
        found, role = self.figures, f":orange[**{self.role}**]" if self.flattered else self.role
        counts = f"{found['n']:,} labelled images of {found['n_lesions']:,} lesions"
        return f"on {plain(self.part)} of {plain(found['data']['name'])}, {counts}. {role}"


def choose_figures() -> tuple[str, Shown | None]:
    """Let model and images be chosen; return the model's name and what to draw, None while there is nothing yet.

    What is wrong with either is said on the page.
    """
    names = record.list_models()
    models, images, part = st.columns([2, 2, 2])
    name = models.selectbox("Model", names, names.index(default_model()), key="measured-model")
    folders = {OWN: OWN, **{folder: Path(folder).name for folder in dataset_folders()}}
    chosen = images.selectbox("Images", folders, format_func=lambda folder: folders[folder], key="measured-images")
    try:
        found = record.read_record(record.find_model(name))
        if chosen == OWN:
            return name, _own(name, found, part)
        options = [*(("split", split) for split in SPLITS), *(("subset", kept) for kept in list_subsets()), WHOLE]
        wanted = part.selectbox("Part", options, format_func=_label, key="measured-part")
        return name, _evaluated(found, _part(found, dataset(chosen), wanted), wanted)
    except CadError as error:
        st.error(plain(str(error)))
        return name, None


def evaluation_of(
    found: ModelRecord, data: "Dataset", split: str | None = None, folder: Path | None = None
) -> "Evaluated | None":
    """Return what a model said of a set; where nobody asked yet, offer to ask, and draw how far it is meanwhile.

    `folder` is that of `evaluated.evaluation_folder`, for who knows it already: to find it takes a look at every file.
    """
    from cadlib.evaluated import evaluation_folder  # noqa: PLC0415 - pandas takes a third of a second

    folder = folder or evaluation_folder(found, data)
    if written := _written(folder):
        background.forget(folder.name)
        return _kept(str(folder), written, found, data)
    if working(background.find(folder.name), found.name):
        return None
    if st.button(
        f"Evaluate {found.name} on {len(data.table):,} images", icon=":material/play_arrow:", type="primary",
        key=f"evaluate-{found.name}", help="It goes on while you look at other pages, and its result is kept.",
    ):  # fmt: skip
        background.start(folder.name, _work(folder, found, data, split))
        st.rerun()
    return None


def _own(name: str, found: ModelRecord, place: Any) -> Shown | None:
    measured = model_metrics(name)
    if measured is None:
        st.info("This model has no metrics.json; measure it with `python -m cadlib evaluate`.")
        return None
    if "validation" in measured:
        splits = {"test": measured, "validation": measured["validation"]}
        wanted = place.segmented_control("Split", [*splits], default="test", key="split", required=True)
        measured = splits[wanted]
    wanted = measured["data"]["split"]
    return Shown(found, measured, f"the {wanted} split", *role_of(wanted))


def _evaluated(found: ModelRecord, data: "Dataset", wanted: tuple[str, str]) -> Shown | None:
    split = wanted[1] if wanted[0] == "split" else None
    said = evaluation_of(found, data, split)
    if said is None:
        return None
    from cadlib.own_split import part_in_training  # noqa: PLC0415 - as above

    kind, part = wanted
    named = {"all": "all images", "split": f"the {part} split", "subset": f"the subset “{part}”"}[kind]
    role = role_of(split) if split else part_in_training(record.find_model(found.name), found, data)
    return Shown(found, said.figures, named, *role, said, data, said.name)


def _label(wanted: tuple[str, str]) -> str:
    kind, name = wanted
    return f"Its {name} split" if kind == "split" else name


def _part(found: ModelRecord, data: "Dataset", wanted: tuple[str, str]) -> "Dataset":
    kind, name = wanted
    if kind == "all":
        return data
    if kind == "split":
        from cadlib.own_split import part_of_split  # noqa: PLC0415 - as above

        return part_of_split(record.find_model(found.name), found, data, name)
    return read_subset(name).of(data)


def _work(folder: Path, found: ModelRecord, data: "Dataset", split: str | None) -> "Callable[[Say], None]":
    def work(say: "Say") -> None:
        from cadlib.evaluated import make_evaluation  # noqa: PLC0415 - as above

        make_evaluation(folder, model_beside(found.name), data, say, split)

    return work


def _written(folder: Path) -> float:
    """Return when the evaluation in a folder was written, 0 where there is none."""
    try:
        return (folder / record.METRICS_FILE).stat().st_mtime
    except OSError:
        return 0.0


@st.cache_resource(max_entries=4, show_spinner=False)
def _kept(folder: str, written: float, _found: ModelRecord, _data: "Dataset") -> "Evaluated":  # noqa: ARG001
    from cadlib.evaluated import read_evaluation  # noqa: PLC0415 - as above

    kept = read_evaluation(Path(folder), _found, _data)
    if kept is None:
        raise DatasetInvalid(f"Expected an evaluation in {folder} but it is gone; evaluate anew.")
    return kept
