"""What the pages share: the frame around each, the pictures of this session, the caches.

The only module that knows Streamlit, and the only home of caches. torch is imported when a picture is to be
assessed, so that a page opens at once.
"""

import csv
import hashlib
import io
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import streamlit as st
from PIL import Image, ImageDraw, ImageOps

from cadlib import figures, record
from cadlib.dataset import Dataset, find_datasets, open_dataset
from cadlib.errors import CadError, DatasetInvalid, ImageRejected, ModelInvalid
from cadlib.images import LesionImage, read_image
from cadlib.record import ModelRecord
from cadlib.synthetic import demo_lesions, is_demo, write_dataset
from cadlib.taxonomy import BENIGN_MARK, CODES, MALIGNANT_MARK, diagnosis

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

    from cadlib.assessment import Assessment
    from cadlib.model import Model
    from cadlib.saliency import Heatmap, Method

INTENDED_USE = "Computer-aided, not a diagnosis: it supports a reader, never replaces one."
DEFAULT_MODEL = "isic2019"
MAX_CASES = 50
MAX_HELD_PIXELS = 240_000_000
"""Of all pictures of one session together: 720 MB of memory, 24 photographs of 10 megapixels."""
SHOWN_SIDE_PX = 1200
THUMBNAIL_SIDE_PX = 240
OPACITY = 0.6
ORIGINAL, DRAWN = "Original", "Drawn lesion, nobody's skin"

_ROOT = Path(__file__).parent.parent
# Streamlit's uploader takes no paste. This hands a pasted picture to its input, as if it had been chosen.
_PASTE = """<script>
if (!window.cadlibPaste) {
  window.cadlibPaste = true;
  document.addEventListener("paste", (event) => {
    const input = document.querySelector(".st-key-upload input[type=file]");
    if (!input || !event.clipboardData || !event.clipboardData.files.length) return;
    event.preventDefault();
    input.files = event.clipboardData.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
</script>"""


@dataclass(frozen=True, eq=False)
class Case:
    """One file of this session: its assessment, or the reason why there is none."""

    key: str
    name: str
    assessment: "Assessment | None"
    reason: str = ""

    @property
    def risk(self) -> float:
        """Return the malignant probability, -1 for a file that could not be read."""
        return self.assessment.prediction.malignant_probability if self.assessment else -1.0


def page(title: str) -> ModelRecord | None:
    """Draw the frame of a page: title, model, intended use. Return the model's record, None without one."""
    if "menu" not in st.session_state:
        # A fresh server runs a deep-linked page without app.py, because a folder is called pages. Told of its
        # pages once, it runs app.py from then on.
        st.navigation([_ROOT / "app.py", *sorted((_ROOT / "pages").glob("*.py"))])
        st.rerun()
    # A picture of our own: Streamlit would fetch an icon by name from a server of Google's.
    st.set_page_config(f"{title} · cadlib", _icon(), layout="wide")
    found, reason = _record()
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(title, anchor=False, width="content")
        if found:
            label = f"Model {found.name} {found.version} · ready"
            st.badge(label, icon=":material/check:", color="gray", help=found.model_id)
        else:
            st.badge("No model", icon=":material/block:", color="gray")
    st.markdown(f"{INTENDED_USE} [Model card](performance#model-card)")
    if not found:
        st.warning(f"{plain(reason)} Only the Dataset page works without a model.", icon=":material/info:")
    return found


def plain(text: str) -> str:
    """Escape what Markdown would read as layout, for text that comes from a file or its name."""
    return re.sub(r"([\\`*_{}\[\]()#+\-!|~$:<>])", r"\\\1", text)


def sign(code: str) -> str:
    """Return the sign of a diagnosis: ▲ malignant, ● benign, ○ none of the eight."""
    return diagnosis(code).mark if code in CODES else "○"


def mark(code: str) -> str:
    """Return the sign of a diagnosis in the hue of its group, as Markdown."""
    hue = {MALIGNANT_MARK: "orange", BENIGN_MARK: "blue"}.get(sign(code), "gray")
    return f":{hue}[{sign(code)}]"


def named(code: str) -> str:
    """Return a code with its name, "MEL Melanoma"; the code alone where it is none of the eight."""
    return f"{code} {diagnosis(code).name}" if code in CODES else code


def chart(figure: "Figure", key: str) -> None:
    """Draw a figure of cadlib.figures with its text for those who cannot see it."""
    st.plotly_chart(figure, key=key, config=figures.CONFIG, alt=figure.layout.meta["alt"])


def accept_paste() -> None:
    """Let a picture pasted anywhere on the page arrive in the uploader of the container "upload"."""
    st.html(_PASTE, unsafe_allow_javascript=True)


def _icon() -> Image.Image:
    picture = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((2, 2, 61, 61), fill="#0F766E")
    draw.ellipse((20, 22, 46, 44), fill="#FAFAFA")
    return picture


# The model


def model() -> "Model":
    """Return the loaded model; where it cannot be loaded, say so and end the page."""
    try:
        folder = _model_folder()
        return _load_model(str(folder), (folder / record.RECORD_FILE).stat().st_mtime)
    except CadError as error:
        st.error(plain(str(error)))
        st.stop()


def model_metrics() -> dict[str, Any] | None:
    """Return the model's metrics.json, None where it has none; raise ModelInvalid where it cannot be read."""
    path = _model_folder() / record.METRICS_FILE
    return record.read_json(path) if path.exists() else None


def model_card() -> str:
    """Return the model's README.md as Markdown."""
    path = _model_folder() / record.CARD_FILE
    return path.read_text(encoding="utf-8") if path.exists() else f"This model's folder has no {path.name}."


def _record() -> tuple[ModelRecord | None, str]:
    try:
        return record.read_record(_model_folder()), ""
    except ModelInvalid as error:
        return None, str(error)


def _model_folder() -> Path:
    names = record.list_models()
    if not names:
        raise ModelInvalid(
            f"Expected a trained model in {record.models_dir()} but there is none; restore the folder from the "
            "repository, or make a model with `python -m cadlib train --data DIR --name NAME`."
        )
    return record.find_model(DEFAULT_MODEL if DEFAULT_MODEL in names else names[0])


@st.cache_resource(max_entries=2, show_spinner="Loading the model …")
def _load_model(folder: str, written: float) -> "Model":  # noqa: ARG001 - a new date is a new model
    from cadlib.model import Model  # noqa: PLC0415 - torch takes seconds

    return Model.load(folder)


# The pictures of this session


def upload_key() -> str:
    """Return the key of the uploader; each batch taken in gives it a new one, which empties it."""
    return f"upload-{st.session_state.get('batch', 0)}"


def take(files: Sequence[tuple[str, bytes]]) -> NoReturn:
    """Assess files given as (name, bytes), showing how far it is; one that fails is held with its reason."""
    held: dict[str, Case] = st.session_state.setdefault("cases", {})
    given = {hashlib.sha256(name.encode() + b"\0" + data).hexdigest(): (name, data) for name, data in files}
    new = [key for key in given if key not in held or not held[key].assessment]
    bar, began = st.progress(0.0, "Reading …"), time.monotonic()
    for done, key in enumerate(new):
        name, data = given[key]
        left = f", about {(time.monotonic() - began) / done * (len(new) - done):.0f} s left" if done else ""
        bar.progress(done / len(new), f"Reading {done + 1} of {len(new)}{left}: {plain(name)}")
        held[key] = _read_case(key, name, data, held)
    choose(max((held[key] for key in given), key=lambda case: case.risk))
    st.session_state["batch"] = st.session_state.get("batch", 0) + 1
    st.rerun()


def cases(current: ModelRecord) -> list[Case]:
    """Return the files of this session, the highest risk first and the unreadable last."""
    held: dict[str, Case] = st.session_state.get("cases", {})
    for case in list(held.values()):
        if case.assessment and case.assessment.prediction.model_id != current.model_id:
            del held[case.key]  # of a model that has been replaced; the picture can be given again
    return sorted(held.values(), key=lambda case: -case.risk)


def chosen_case(ranked: Sequence[Case]) -> Case | None:
    """Return the chosen one of `ranked`, else its first; None when there is none."""
    chosen = st.session_state.get("chosen")
    return next((case for case in ranked if case.key == chosen), ranked[0] if ranked else None)


def choose(case: Case) -> None:
    """Make a case the current one, for this page and the next."""
    st.session_state["chosen"] = case.key


def remove(*gone: Case) -> None:
    """Forget these cases."""
    for case in gone:
        st.session_state["cases"].pop(case.key, None)


def next_synthetic(ranked: Sequence[Case]) -> tuple[str, bytes]:
    """Return name and bytes of the first drawn lesion that is not among these cases."""
    names = {case.name for case in ranked}
    lesions = demo_lesions()
    lesion = next((one for one in lesions if f"{one.name}.png" not in names), lesions[0])
    return f"{lesion.name}.png", lesion.png()


def cases_csv(ranked: Sequence[Case]) -> str:
    """Return the cases as CSV, in the columns of `python -m cadlib predict --format csv`."""
    from cadlib.assessment import CSV_COLUMNS, csv_row  # noqa: PLC0415 - torch takes seconds

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)
    rows.writerows(csv_row(case.name, case.assessment or case.reason) for case in ranked)
    return text.getvalue()


def cases_json(ranked: Sequence[Case]) -> str:
    """Return the cases as JSON, as `python -m cadlib predict --format json` does."""
    from cadlib.assessment import json_row  # noqa: PLC0415 - torch takes seconds

    found = [json_row(case.name, case.assessment or case.reason) for case in ranked]
    return json.dumps(found, indent=2, ensure_ascii=False)


def _read_case(key: str, name: str, data: bytes, held: dict[str, Case]) -> Case:
    try:
        if sum(case.assessment is not None for case in held.values()) >= MAX_CASES:
            raise ImageRejected(f"Expected at most {MAX_CASES} pictures at a time; remove some and give it again.")
        image = read_image(data)
        others = (case.assessment.image for case in held.values() if case.assessment)
        if sum(one.width_px * one.height_px for one in (image, *others)) > MAX_HELD_PIXELS:
            raise ImageRejected(
                f"Expected at most {MAX_HELD_PIXELS // 1_000_000} megapixels at a time, all pictures together; "
                "remove some and give it again."
            )
        return Case(key, name, _assess(image))
    except CadError as error:
        return Case(key, name, None, str(error))


def _assess(image: LesionImage) -> "Assessment":
    from cadlib.assessment import assess_batch  # noqa: PLC0415 - torch takes seconds

    return assess_batch(model(), [image])[0]


# Pictures and the evidence in them


def photograph(image: LesionImage, side_px: int = SHOWN_SIDE_PX) -> bytes:
    """Return a picture as JPEG, at most `side_px` a side."""
    return _jpeg(image.sha256, side_px, image)


def square(image: LesionImage) -> bytes:
    """Return the centred square of a picture as a small JPEG."""
    return _square(image.sha256, image)


def photograph_of(path: str) -> bytes:
    """Return the picture in a file as JPEG; raise ImageRejected where there is none."""
    return photograph(read_image(path))


def thumbnail(path: str) -> bytes:
    """Return the picture in a file as a small JPEG; raise ImageRejected where there is none."""
    return _thumbnail(path, Path(path).stat().st_mtime)


def methods() -> "tuple[Method, ...]":
    """Return the ways to make a heatmap, the usual one first."""
    from cadlib.saliency import METHODS  # noqa: PLC0415 - torch takes seconds

    return METHODS


def heatmap(image: LesionImage, code: str, method: "Method | None" = None) -> "Heatmap":
    """Return the evidence for one diagnosis in a picture, by the usual method or another, computed once."""
    method = method or methods()[0]
    code = code if method.class_specific else CODES[0]
    return _heatmap(image.sha256, model().record.model_id, code, method.key, image)


def said(found: "Heatmap") -> str:
    """Return what a heatmap shows in words, "Grad-CAM for Melanoma"."""
    method = next(one.name for one in methods() if one.key == found.method)
    return f"{method} for {diagnosis(found.diagnosis).name}" if found.diagnosis else f"{method}, not class-specific"


def overlay(
    image: LesionImage,
    found: "Heatmap",
    opacity: float = OPACITY,
    peak: float | None = None,
    side_px: int = SHOWN_SIDE_PX,
) -> "NDArray[np.uint8]":
    """Blend a heatmap into its picture, at most `side_px` a side; (h, w, 3) uint8 RGB."""
    from cadlib import saliency  # noqa: PLC0415 - torch takes seconds

    return saliency.overlay(image, found, opacity, peak, side_px)


def overlay_png(image: LesionImage, found: "Heatmap", opacity: float) -> Callable[[], bytes]:
    """Return what makes the PNG of an overlay in the picture's full size, to be called when it is wanted."""
    side_px = max(image.width_px, image.height_px)
    return lambda: _encoded(Image.fromarray(overlay(image, found, opacity, side_px=side_px)), "PNG")


def side_by_side(
    image: LesionImage,
    found: "Heatmap",
    name: str,
    opacity: float = OPACITY,
    peak: float | None = None,
    drawn: bool = False,
) -> None:
    """Draw the picture of that name, its overlay beside it, and under that the scale of its colours up to `peak`.

    A picture of the demonstration is told by its content; `drawn` says it of others.
    """
    from cadlib.saliency import colour_scale  # noqa: PLC0415 - torch takes seconds

    hottest = found.raw_peak if peak is None else peak
    left, right = st.columns(2, wrap=False)
    source = DRAWN if drawn or is_demo(image.pixels) else ORIGINAL
    left.image(photograph(image), source, width="stretch", alt=f"The picture {name}")
    shows = f"{said(found)}, peak {found.raw_peak:.2g}"
    blend = overlay(image, found, opacity, peak)
    right.image(blend, shows, width="stretch", output_format="JPEG", alt=f"Heatmap, {shows}")
    scale = f"clear is 0, yellow is {hottest:.2g}" if found.raw_peak else "nothing in the picture speaks for it"
    right.image(colour_scale(400, 8), scale, width="stretch", alt=f"Colour scale: {scale}")


# Of one session each: a patient's picture is gone when the tab is closed.
@st.cache_resource(max_entries=200, show_spinner="Looking for the evidence …", scope="session")
def _heatmap(sha256: str, model_id: str, code: str, method: str, _image: LesionImage) -> "Heatmap":  # noqa: ARG001
    from cadlib import saliency  # noqa: PLC0415 - torch takes seconds

    return saliency.explain(model(), _image, code, method)


@st.cache_data(max_entries=200, show_spinner=False, scope="session")
def _jpeg(sha256: str, side_px: int, _image: LesionImage) -> bytes:  # noqa: ARG001 - the hash is the picture's
    return _encoded(_shrunk(_image, side_px), "JPEG")


@st.cache_data(max_entries=200, show_spinner=False, scope="session")
def _square(sha256: str, _image: LesionImage) -> bytes:  # noqa: ARG001 - the hash is the picture's
    fitted = ImageOps.fit(Image.fromarray(_image.pixels), (THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX))
    return _encoded(fitted, "JPEG")


@st.cache_data(max_entries=2000, show_spinner=False)
def _thumbnail(path: str, written: float) -> bytes:  # noqa: ARG001 - a new date is a new picture
    return _encoded(_shrunk(read_image(path), THUMBNAIL_SIDE_PX), "JPEG")


def _shrunk(image: LesionImage, side_px: int) -> Image.Image:
    picture = Image.fromarray(image.pixels)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return picture


def _encoded(picture: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=90)
    return buffer.getvalue()


# Data sets


def dataset_folders() -> list[str]:
    """Return the data sets in the folder CADLIB_DATA; none where that is not set."""
    root = os.environ.get("CADLIB_DATA")
    return [str(folder) for folder in find_datasets(Path(root))] if root else []


def dataset(path: str) -> Dataset:
    """Return the checked data set in a folder; raise DatasetInvalid where there is none."""
    try:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise DatasetInvalid(f"Expected the folder of a data set but {folder} is no folder; give its full path.")
        written = max(path.lstat().st_mtime for path in (folder, *folder.iterdir()))
    except (OSError, RuntimeError, ValueError) as error:
        raise DatasetInvalid(f"Expected the folder of a data set but it cannot be opened: {error}.") from error
    return _dataset(str(folder), written)


@st.cache_resource(max_entries=1, show_spinner="Drawing lesions …")
def synthetic_folder() -> str:
    """Return a folder in ISIC's layout with drawn lesions, for those who have no data set."""
    return str(write_dataset(Path(tempfile.mkdtemp(prefix="cadlib-")) / "synthetic"))


def assess_file(path: str) -> "Assessment":
    """Assess the picture in a file, once; raise ImageRejected where there is none."""
    return _assess_file(path, Path(path).stat().st_mtime, model().record.model_id)


@st.cache_resource(max_entries=3, show_spinner="Reading the data set …", show_time=True)
def _dataset(folder: str, written: float) -> Dataset:  # noqa: ARG001 - a new date is a new data set
    return open_dataset(Path(folder), verify=False)


@st.cache_resource(max_entries=30, show_spinner="Reading …")
def _assess_file(path: str, written: float, model_id: str) -> "Assessment":  # noqa: ARG001 - as above
    return _assess(read_image(path))
