"""The whole pipeline for one image, in one call."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from threadpoolctl import ThreadpoolController

from cadlib.files.spreadsheets import safe_cell
from cadlib.images import LesionImage, read_image
from cadlib.images.quality import QualityReport, inspect
from cadlib.metrics.operating_point import DEFAULT_OPERATING_POINT, Decision, decide
from cadlib.model.metadata import PatientFacts
from cadlib.model.model import Model, Prediction, Source
from cadlib.model.neighbours import Neighbours
from cadlib.model.novelty import Novelty
from cadlib.saliency.heatmap import Heatmap, activation_map
from cadlib.taxonomy import CODES
from cadlib.thread_pool import threads

_BLAS = ThreadpoolController()
"""Its threads go on spinning after each product of matrices and would slow the network down, for nothing."""

CSV_COLUMNS = (
    *("file", "image_sha256", "quality", "known", "novelty", "interpretable", "warning"),
    *("diagnosis", "prediction_set", "malignant_probability", "decision"),
    *(*CODES, "model", "notes", "error"),
)


@dataclass(frozen=True, eq=False)
class Assessment:
    """Everything said of one image; `heatmap` explains the most probable diagnosis by Grad-CAM, if it was asked for.

    `likely` are the diagnoses of the model's prediction set, the most probable first. The set is built to contain the
    true diagnosis for the share `ConformalSets.coverage` of the images of each diagnosis. None with facts of the
    patient, for which it was not fitted. Where the picture is not `answerable` the rest is to be withheld until it is
    asked for. `neighbours` is None for a model without an index of its training images.
    """

    image: LesionImage
    quality: QualityReport
    prediction: Prediction
    decision: Decision
    likely: tuple[str, ...] | None
    heatmap: Heatmap | None
    neighbours: Neighbours | None

    @property
    def novelty(self) -> Novelty | None:
        """Return how unlike the training images the picture is; None where the model cannot tell."""
        return self.prediction.novelty

    @property
    def answerable(self) -> bool:
        """Tell whether the answer may be shown without being asked for: the picture can be read, and is known."""
        return self.quality.readable and (self.novelty is None or self.novelty.known)

    @property
    def warning(self) -> str:
        """Return why no answer can rest on this picture; empty where the picture is `answerable`."""
        if self.answerable:
            return ""
        reasons = []
        if self.novelty and not self.novelty.known:
            reasons.append(self.novelty.sentence)
        if not self.quality.readable:
            reasons.append(self.quality.sentence)
        return " ".join(["No answer can rest on this picture.", *reasons])

    def to_json(self) -> dict[str, Any]:
        """Return the assessment as JSON values, without pixels; sides and edges in px of the picture in its file."""
        point, (width_px, height_px) = self.decision.operating_point, self.image.file_px
        scale = width_px / self.image.width_px
        return {
            "image_sha256": self.image.sha256,
            "width_px": width_px,
            "height_px": height_px,
            "notes": list(self.image.notes),
            "header_facts": asdict(self.image.facts) if self.image.facts.known else None,
            "quality": self.quality.to_json(),
            "known": self.novelty and self.novelty.known,
            "novelty": self.novelty and round(self.novelty.score, 4),
            "interpretable": self.answerable,
            "warning": self.warning or None,
            "model": self.prediction.model_id,
            "diagnosis": self.prediction.ranking()[0][0],
            "probabilities": dict(self.prediction.ranking()),
            "prediction_set": self.likely and list(self.likely),
            "facts": self.prediction.facts
            and {
                **asdict(self.prediction.facts),
                "moved": dict(zip(CODES, self.prediction.moved.round(6).tolist(), strict=True)),
            },
            "malignant_probability": self.prediction.malignant_probability,
            "decision": {
                "action": self.decision.action,
                "operating_point": point.name,
                "threshold": point.threshold,
                "sensitivity": point.sensitivity,
                "specificity": point.specificity,
                "measured_on": point.split,
                "intervals": asdict(point.intervals),
            },
            "heatmap": self.heatmap
            and {
                "diagnosis": self.heatmap.diagnosis,
                "method": self.heatmap.method,
                "raw_peak": self.heatmap.raw_peak,
                "box": [round(edge * scale) for edge in self.heatmap.box],
            },
            "neighbours": self.neighbours and self.neighbours.to_json(),
        }


def csv_row(file: str, outcome: Assessment | str) -> list[str]:
    """Return the row of CSV_COLUMNS for a file: its assessment, or the reason why there is none.

    `quality` is "good", or the severity and what was found: "unreadable: sharpness, hair". `prediction_set` has codes,
    the most probable first: "MEL NV". `known` is yes or no, `novelty` the score, 1 at the limit; both are empty for a
    model that cannot tell. `interpretable` is no, with the reason as `warning`, where the pages hide the answer until
    it is asked for: the columns after it are not to be used unread. `notes` has the
    sentences of `LesionImage.notes`. A cell that a spreadsheet would
    compute has an apostrophe before it.
    """
    if isinstance(outcome, str):
        return [safe_cell(file), *[""] * (len(CSV_COLUMNS) - 2), safe_cell(outcome)]
    prediction = outcome.prediction
    risk, *shares = (
        f"{p:.6f}" for p in (prediction.malignant_probability, *prediction.probabilities)
    )
    top, _ = prediction.ranking()[0]
    found = ", ".join(finding.name for finding in outcome.quality.flagged)
    quality = f"{outcome.quality.severity}: {found}" if found else outcome.quality.severity
    action, model = outcome.decision.action, prediction.model_id
    likely = " ".join(outcome.likely or ())
    notes = " ".join(outcome.image.notes)
    known = (
        ("yes" if one.known else "no", f"{one.score:.4f}") if (one := outcome.novelty) else ("", "")
    )
    warned = ("yes" if outcome.answerable else "no", outcome.warning)
    row = [file, prediction.image_sha256, quality, *known, *warned, top, likely, risk, action]
    row = [*row, *shares, model, notes, ""]
    return [safe_cell(cell) for cell in row]


def json_row(file: str, outcome: Assessment | str) -> dict[str, Any]:
    """Return the JSON values for a file: its assessment, or the reason why there is none."""
    return {"file": file, **({"error": outcome} if isinstance(outcome, str) else outcome.to_json())}


def assess(
    model: Model,
    source: Source,
    operating_point: str = DEFAULT_OPERATING_POINT,
    facts: PatientFacts | None = None,
) -> Assessment:
    """Read an image, inspect, predict, decide and explain; raise ImageRejected when the image cannot be read."""
    image = source if isinstance(source, LesionImage) else read_image(source)
    with _BLAS.limit(limits=1, user_api="blas"):
        quality = threads().submit(
            inspect, image
        )  # beside the network: OpenCV and ONNX Runtime let go of the GIL
        prediction = model.predict(image, facts)
        found = _assessment(model, image, quality.result(), prediction, operating_point)
    top, _ = found.prediction.ranking()[0]
    return replace(found, heatmap=activation_map(model, image, found.prediction, top))


def assess_batch(
    model: Model,
    images: Sequence[LesionImage],
    operating_point: str = DEFAULT_OPERATING_POINT,
    facts: PatientFacts | Sequence[PatientFacts] | None = None,
) -> list[Assessment]:
    """Inspect, predict and decide for many images, without heatmaps: each prediction brings what one is drawn from.

    `facts` are of the one patient and site that all the images show, or one for each image; raise FactsRejected when
    the model takes none. What a header says (`LesionImage.facts`) is no part of an answer unless it is given here.
    """
    each = facts if isinstance(facts, Sequence) else [facts] * len(images)
    with _BLAS.limit(limits=1, user_api="blas"):
        qualities = threads().map(inspect, images)
        predicted = zip(model.predict_batch(images), each, strict=True)
        predictions = [model.with_facts(prediction, known) for prediction, known in predicted]
        of_each = zip(images, qualities, predictions, strict=True)
        return [_assessment(model, *found, operating_point) for found in of_each]


def reconsider(
    model: Model, found: Assessment, operating_point: str, facts: PatientFacts | None = None
) -> Assessment:
    """Return an assessment of the image alone as it is at another operating point, and with facts of the patient.

    Nothing is looked at again. Raise ModelInvalid for an operating point and FactsRejected for facts that the model
    does not know.
    """
    answer = _answer(model, model.with_facts(found.prediction, facts), operating_point)
    first, _ = answer["prediction"].ranking()[0]
    return replace(
        found, **answer, neighbours=found.neighbours and replace(found.neighbours, first=first)
    )


def _assessment(
    model: Model,
    image: LesionImage,
    quality: QualityReport,
    prediction: Prediction,
    operating_point: str,
) -> Assessment:
    index, (first, _) = model.neighbours, prediction.ranking()[0]
    return Assessment(
        image=image,
        quality=quality,
        **_answer(model, prediction, operating_point),
        neighbours=index.search(prediction.features, prediction.fingerprint, first)
        if index
        else None,
        heatmap=None,
    )


def _answer(model: Model, prediction: Prediction, operating_point: str) -> dict[str, Any]:
    alone = prediction.facts is None
    inside = model.record.conformal.of(prediction.probabilities)
    point = model.record.operating_point(operating_point, with_facts=not alone)
    return {
        "prediction": prediction,
        "decision": decide(prediction.malignant_probability, point),
        "likely": tuple(code for code, _ in prediction.ranking() if inside[CODES.index(code)])
        if alone
        else None,
    }
