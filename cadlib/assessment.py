"""Assesses an image: quality, prediction, decision and explanation in one call."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec
from threadpoolctl import ThreadpoolController

from cadlib.files.spreadsheets import safe_cell
from cadlib.images import LesionImage, read_image
from cadlib.images.quality import QualityReport, inspect
from cadlib.metrics.operating_point import (
    DEFAULT_OPERATING_POINT,
    Decision,
    decide,
    two_digits,
)
from cadlib.model.metadata import PatientFacts
from cadlib.model.model import Model, Prediction, Source
from cadlib.model.neighbours import Neighbours
from cadlib.model.novelty import Novelty
from cadlib.saliency.heatmap import Heatmap, activation_map
from cadlib.taxonomy import CODES
from cadlib.thread_pool import threads

_BLAS = ThreadpoolController()
"""Limits BLAS threads, which spin after each matrix product and would slow the network down."""

CSV_COLUMNS = (
    *("file", "image_sha256", "quality", "known", "novelty", "interpretable", "warning"),
    *("diagnosis", "prediction_set", "malignant_probability"),
    *("malignant_low", "malignant_high", "borderline", "decision"),
    *(*CODES, "model", "notes", "error"),
)


@dataclass(frozen=True, eq=False)
class Assessment:
    """The complete result for one image.

    `heatmap` explains the most probable diagnosis by Grad-CAM; it is None unless requested.

    `likely` are the diagnoses of the model's prediction set, the most probable first. The set is
    built to contain the true diagnosis for the share `ConformalSets.coverage` of the images of each
    diagnosis. It is None with facts of the patient, because it was not fitted for them.

    Where the image is not `answerable`, the rest is withheld until a reader requests it.
    `neighbours` is None for a model without an index of its training images.
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
        """Return how unlike the training images this image is; None without a novelty detector."""
        return self.prediction.novelty

    @property
    def answerable(self) -> bool:
        """Return whether the answer may be shown at once: the image is readable and not novel."""
        is_known = self.novelty is None or self.novelty.known
        return self.quality.readable and is_known

    @property
    def borderline(self) -> bool:
        """Return whether the networks of the model, each alone, would not all decide the same."""
        spread = self.prediction.member_range
        if spread is None:
            return False
        low, high = spread
        # A probability at the threshold is referred.
        return low < self.decision.operating_point.threshold <= high

    @property
    def spread_sentence(self) -> str:
        """Return how far the networks of the model agree; empty for a model of one network."""
        spread = self.prediction.member_range
        if spread is None:
            return ""
        low, high = spread
        n_networks = len(self.prediction.member_probabilities)
        sentence = (
            f"Malignant probability of the model's {n_networks} networks alone: "
            f"{two_digits(low)} to {two_digits(high)}."
        )
        if not self.borderline:
            return sentence
        return f"Borderline: the networks disagree on the decision. {sentence}"

    @property
    def warning(self) -> str:
        """Return why no reliable result is possible; empty where the image is `answerable`."""
        if self.answerable:
            return ""
        reasons = []
        if self.novelty and not self.novelty.known:
            reasons.append(self.novelty.sentence)
        if not self.quality.readable:
            reasons.append(self.quality.sentence)
        return " ".join(["No reliable result is possible for this image.", *reasons])

    def to_json(self) -> dict[str, Any]:
        """Return the assessment as JSON values, without pixels.

        Sides and edges are in px of the image in its file.
        """
        width_px, height_px = self.image.file_px
        header_facts = self.image.facts
        novelty = self.novelty
        prediction = self.prediction
        ranking = prediction.ranking()
        return {
            "image_sha256": self.image.sha256,
            "width_px": width_px,
            "height_px": height_px,
            "notes": list(self.image.notes),
            # Facts of the header have no effect unless they are passed, so `facts` are apart.
            "header_facts": asdict(header_facts) if header_facts.known else None,
            "quality": self.quality.to_json(),
            "known": novelty and novelty.known,
            "novelty": novelty and round(novelty.score, 4),
            "interpretable": self.answerable,
            "warning": self.warning or None,
            "model": prediction.model_id,
            "diagnosis": ranking[0][0],
            # In the order of the ranking, the most probable diagnosis first.
            "probabilities": dict(ranking),
            "prediction_set": self.likely and list(self.likely),
            "facts": _facts_json(prediction),
            "malignant_probability": prediction.malignant_probability,
            # `predict --views 1` reads fewer than the model does by itself.
            "views": len(prediction.view_probabilities),
            "networks": _networks_json(self),
            "decision": _decision_json(self.decision),
            "heatmap": self.heatmap and _heatmap_json(self.heatmap, self.image),
            "neighbours": self.neighbours and self.neighbours.to_json(),
        }


def _facts_json(prediction: Prediction) -> dict[str, Any] | None:
    """Return the facts of the patient and the shift that they cause; None without facts."""
    if not prediction.facts:
        return None
    rounded = prediction.moved.round(6)
    shifts = rounded.tolist()
    facts = asdict(prediction.facts)
    facts["moved"] = dict(zip(CODES, shifts, strict=True))
    return facts


def _networks_json(assessment: Assessment) -> dict[str, Any] | None:
    """Return how far the networks of a model agree; None for a model of one network."""
    prediction = assessment.prediction
    spread = prediction.member_range
    if spread is None:
        return None
    low, high = spread
    return {
        "count": len(prediction.member_probabilities),
        "malignant_low": low,
        "malignant_high": high,
        "borderline": assessment.borderline,
    }


def _decision_json(decision: Decision) -> dict[str, Any]:
    point = decision.operating_point
    return {
        "action": decision.action,
        "operating_point": point.name,
        "threshold": point.threshold,
        "sensitivity": point.sensitivity,
        "specificity": point.specificity,
        "measured_on": point.split,
        "intervals": msgspec.structs.asdict(point.intervals),
    }


def _heatmap_json(heatmap: Heatmap, image: LesionImage) -> dict[str, Any]:
    # A large image is decoded smaller than its file.
    file_width_px, _ = image.file_px
    scale = file_width_px / image.width_px
    return {
        "diagnosis": heatmap.diagnosis,
        "method": heatmap.method,
        "raw_peak": heatmap.raw_peak,
        "box": [round(edge * scale) for edge in heatmap.box],
    }


def csv_row(file: str, outcome: Assessment | str) -> list[str]:
    """Return the row of CSV_COLUMNS for a file: its assessment, or the reason why there is none.

    `quality` is "good", or the severity and the failed checks: "unreadable: sharpness, hair".
    `prediction_set` has codes, the most probable first: "MEL NV". `known` is yes or no, `novelty`
    the score, 1 at the limit; both are empty for a model without a novelty detector.
    `malignant_low` and `malignant_high` are the ends of the malignant probabilities of the model's
    networks alone, and `borderline` is whether these disagree on the decision; empty for a model of
    one network. `interpretable` is no, with the reason as `warning`, where the pages hide the
    answer until a reader requests it: read the warning before using the columns after it. `notes`
    has the sentences of `LesionImage.notes`. A cell that a spreadsheet would compute has an
    apostrophe before it.
    """
    if isinstance(outcome, str):
        # The first column is the file, the last the reason.
        n_empty = len(CSV_COLUMNS) - 2
        empty = [""] * n_empty
        return [safe_cell(file), *empty, safe_cell(outcome)]
    prediction = outcome.prediction
    top, _ = prediction.ranking()[0]
    row = [
        file,
        prediction.image_sha256,
        _quality_cell(outcome.quality),
        *_novelty_cells(outcome.novelty),
        "yes" if outcome.answerable else "no",
        outcome.warning,
        top,
        " ".join(outcome.likely or ()),
        f"{prediction.malignant_probability:.6f}",
        *_network_cells(outcome),
        outcome.decision.action,
    ]
    row += [f"{probability:.6f}" for probability in prediction.probabilities]
    # The last column is the error, of which an assessed file has none.
    row += [prediction.model_id, " ".join(outcome.image.notes), ""]
    return [safe_cell(cell) for cell in row]


def _quality_cell(quality: QualityReport) -> str:
    flagged = quality.flagged
    if not flagged:
        return quality.severity
    names = ", ".join(check.name for check in flagged)
    return f"{quality.severity}: {names}"


def _network_cells(assessment: Assessment) -> tuple[str, str, str]:
    spread = assessment.prediction.member_range
    if spread is None:
        return "", "", ""
    low, high = spread
    answer = "yes" if assessment.borderline else "no"
    return f"{low:.6f}", f"{high:.6f}", answer


def _novelty_cells(novelty: Novelty | None) -> tuple[str, str]:
    if not novelty:
        return "", ""
    answer = "yes" if novelty.known else "no"
    return answer, f"{novelty.score:.4f}"


def json_row(file: str, outcome: Assessment | str) -> dict[str, Any]:
    """Return the JSON values for a file: its assessment, or the reason why there is none."""
    if isinstance(outcome, str):
        return {"file": file, "error": outcome}
    return {"file": file, **outcome.to_json()}


def assess(
    model: Model,
    source: Source,
    operating_point: str = DEFAULT_OPERATING_POINT,
    facts: PatientFacts | None = None,
    *,
    with_heatmap: bool = True,
) -> Assessment:
    """Read an image, inspect, predict, decide and explain.

    `with_heatmap=False` leaves out the heatmap, for a page that draws it later. Raise ImageRejected
    when the image cannot be read.
    """
    image = source if isinstance(source, LesionImage) else read_image(source)
    with _BLAS.limit(limits=1, user_api="blas"):
        # This runs beside the network: OpenCV and ONNX Runtime release the GIL.
        quality = threads().submit(inspect, image)
        prediction = model.predict(image, facts)
        assessment = _assessment(model, image, quality.result(), prediction, operating_point)
    if not with_heatmap:
        return assessment
    top, _ = assessment.prediction.ranking()[0]
    return replace(assessment, heatmap=heatmap_of(model, assessment, top))


def heatmap_of(model: Model, assessment: Assessment, code: str) -> Heatmap:
    """Return the Grad-CAM map of one of the eight diagnoses for an assessed image.

    The network does not run again. Raise CadError when it returned NaN or infinity.
    """
    return activation_map(model, assessment.image, assessment.prediction, code)


def assess_batch(
    model: Model,
    images: Sequence[LesionImage],
    operating_point: str = DEFAULT_OPERATING_POINT,
    facts: PatientFacts | Sequence[PatientFacts] | None = None,
) -> list[Assessment]:
    """Inspect, predict and decide for many images, without heatmaps.

    Each prediction carries what a heatmap is drawn from. `facts` are those of the one patient and
    site that all the images show, or one for each image. Raise FactsRejected when the model takes
    none. The facts of an image header (`LesionImage.facts`) have no effect unless they are passed
    here.
    """
    # A page shows one patient; the files of a folder may be of several.
    facts_of_each = facts if isinstance(facts, Sequence) else [facts] * len(images)
    with _BLAS.limit(limits=1, user_api="blas"):
        # Started before the network runs, so that both work at the same time.
        qualities = threads().map(inspect, images)
        of_images = model.predict_batch(images)
        predictions = []
        for prediction, image_facts in zip(of_images, facts_of_each, strict=True):
            with_facts = model.with_facts(prediction, image_facts)
            predictions.append(with_facts)
        assessments = []
        for image, quality, prediction in zip(images, qualities, predictions, strict=True):
            assessment = _assessment(
                model,
                image,
                quality,
                prediction,
                operating_point,
            )
            assessments.append(assessment)
        return assessments


def reconsider(
    model: Model,
    assessment: Assessment,
    operating_point: str,
    facts: PatientFacts | None = None,
) -> Assessment:
    """Return an assessment of the image alone at another operating point and with patient facts.

    The image is not processed again. Raise ModelInvalid for an operating point and FactsRejected
    for facts that the model does not know.
    """
    prediction = model.with_facts(assessment.prediction, facts)
    # The similar cases stay; only the diagnosis that they are compared with may be another.
    first, _ = prediction.ranking()[0]
    neighbours = assessment.neighbours and replace(assessment.neighbours, first=first)
    return replace(
        assessment,
        prediction=prediction,
        decision=_decision(model, prediction, operating_point),
        likely=_likely(model, prediction),
        neighbours=neighbours,
    )


def _assessment(
    model: Model,
    image: LesionImage,
    quality: QualityReport,
    prediction: Prediction,
    operating_point: str,
) -> Assessment:
    index = model.neighbours
    first, _ = prediction.ranking()[0]
    neighbours = None
    if index:
        neighbours = index.search(prediction.features, prediction.fingerprint, first)
    return Assessment(
        image=image,
        quality=quality,
        prediction=prediction,
        decision=_decision(model, prediction, operating_point),
        likely=_likely(model, prediction),
        neighbours=neighbours,
        # `assess` or a page adds it; a batch does without.
        heatmap=None,
    )


def _decision(model: Model, prediction: Prediction, operating_point: str) -> Decision:
    with_facts = prediction.facts is not None
    point = model.record.operating_point(operating_point, with_facts=with_facts)
    return decide(prediction.malignant_probability, point)


def _likely(model: Model, prediction: Prediction) -> tuple[str, ...] | None:
    """Return the diagnoses of the prediction set, the most probable first."""
    # The prediction sets were not fitted for predictions with facts.
    if prediction.facts is not None:
        return None
    inside = model.record.conformal.of(prediction.probabilities)
    codes = [code for code, _ in prediction.ranking() if inside[CODES.index(code)]]
    return tuple(codes)
