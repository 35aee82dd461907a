"""Golden answers: what a model answered for the project's drawn lesions on the day it was made.

They catch what unit tests miss: preprocessing that drifted, labels in another order, a library that
computes something else, a threshold that was moved. A few small lesions are checked whenever a model
is loaded, all of them by `python -m cadlib model verify` and `audit`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta
from PIL import Image

from cadlib.errors import ModelInvalid
from cadlib.files.typed_json import convert, parse
from cadlib.images.patient import PatientFacts
from cadlib.images.synthetic import DEMO_SIDE_PX, demo_lesions, render_lesion
from cadlib.metrics.operating_point import decide
from cadlib.model.record import GOLDEN_FILE, ModelRecord, read_checked
from cadlib.taxonomy import CODES, MALIGNANT

if TYPE_CHECKING:
    from cadlib.model.model import Model, Prediction

TOLERANCE = 1e-3
"""Of a probability: other processors and versions of ONNX Runtime round otherwise."""
NOVELTY_TOLERANCE = 1e-2
"""Of a novelty score, which is about 1: OpenCV rounds by its processor too."""
NEAREST_TOLERANCE = 5e-3
"""Of a cosine between the features of two images."""
FACTS = PatientFacts(70, "male", "head/neck")
"""The patient of the golden answers with facts, for a model that takes them."""
_QUICK = ((0, 160), (1, 96))
"""Number and side of the demo lesions that are checked at each start: both sizes have a temperature of their own, and
a small lesion is drawn in a fifth of the time of a large one."""

_DRAWING = Lock()

Share = Annotated[float, Meta(ge=0, le=1)]


class GoldenDecision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The decision at an operating point."""

    threshold: Share
    action: Literal["refer", "below the referral threshold"]


class GoldenWithFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer for the lesion of the patient FACTS."""

    probabilities: dict[str, Share]
    decisions: dict[str, GoldenDecision]


class GoldenAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer for a drawn lesion of a side in px.

    `nearest` is the cosine with the most similar case. What a model does not have is None: a novelty, similar cases,
    an answer `with_facts`.
    """

    lesion: str
    side_px: Annotated[int, Meta(ge=32, le=4096)]
    probabilities: dict[str, Share]
    malignant_probability: Share
    prediction_set: tuple[str, ...]
    novelty: Annotated[float, Meta(ge=0, le=1e12)] | None
    nearest: Annotated[float, Meta(ge=-1, le=1)] | None
    decisions: dict[str, GoldenDecision]
    with_facts: GoldenWithFacts | None

    @property
    def name(self) -> str:
        """Return the lesion's name, with its side where that is not the usual one."""
        return (
            self.lesion if self.side_px == DEMO_SIDE_PX else f"{self.lesion} at {self.side_px} px"
        )


class GoldenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of golden.json."""

    format_version: Literal[2]
    tolerance: Annotated[float, Meta(gt=0, le=0.01)]
    answers: tuple[GoldenAnswer, ...]


@dataclass(frozen=True)
class DrawnLesion:
    """A drawn lesion as an image, with its name and its side."""

    name: str
    side_px: int
    image: Image.Image


@dataclass(frozen=True)
class Drift:
    """Something in the answer for a drawn lesion that is not what it was: `golden` then, `today` now."""

    lesion: str
    what: str
    golden: float | str
    today: float | str

    @property
    def distance(self) -> float:
        """Return how far a number moved; NaN where the model gives no number, infinity for what is no number."""
        if isinstance(self.golden, str) or isinstance(self.today, str):
            return float("inf")
        return abs(self.today - self.golden)

    def __str__(self) -> str:
        if isinstance(self.golden, str) or isinstance(self.today, str):
            return f"{self.lesion} {self.what}: {self.golden} became {self.today}"
        return f"{self.lesion} {self.what}: {self.golden:.4f} became {self.today:.4f}, {self.distance:.4f} away"


def quick_lesions() -> tuple[DrawnLesion, ...]:
    """Return the lesions that are checked at each start; drawn once, whichever thread asks first."""
    with _DRAWING:
        return _quick_lesions()


@cache
def _quick_lesions() -> tuple[DrawnLesion, ...]:
    drawn = []
    for number, side_px in _QUICK:
        lesion = demo_lesions()[number]
        pixels = render_lesion(lesion.code, lesion.seed, side_px)
        drawn.append(DrawnLesion(lesion.name, side_px, Image.fromarray(pixels)))
    return tuple(drawn)


def all_lesions() -> tuple[DrawnLesion, ...]:
    """Return every lesion of golden.json: the ones above, and those that the pages offer."""
    large = (
        DrawnLesion(one.name, DEMO_SIDE_PX, Image.fromarray(one.pixels)) for one in demo_lesions()
    )
    return (*quick_lesions(), *large)


def golden_file(model: "Model") -> GoldenFile:
    """Return what golden.json has to hold for a model."""
    return GoldenFile(2, TOLERANCE, answers_of(model, all_lesions()))


def golden_json(model: "Model") -> str:
    """Return the same as the text of the file."""
    return msgspec.json.format(msgspec.json.encode(golden_file(model)), indent=2).decode() + "\n"


def read_golden(data: bytes, path: Path) -> GoldenFile:
    """Return the content of a golden.json; raise ModelInvalid for one that cannot be used."""
    golden = convert(parse(data, path), GoldenFile, path)
    for answer in golden.answers:
        shares = [
            answer.probabilities,
            *([answer.with_facts.probabilities] if answer.with_facts else []),
        ]
        if any(set(share) != set(CODES) for share in shares):
            raise ModelInvalid(
                f"Expected {path} to have a probability for {', '.join(CODES)}. Restore the file."
            )
    return golden


def answers_of(model: "Model", lesions: Sequence[DrawnLesion]) -> tuple[GoldenAnswer, ...]:
    """Return what a model answers for drawn lesions today."""
    predictions = model.predict_batch([lesion.image for lesion in lesions])
    return tuple(
        _answer(model, lesion, prediction)
        for lesion, prediction in zip(lesions, predictions, strict=True)
    )


def check_quick(model: "Model", data: bytes, path: Path) -> None:
    """Raise ModelInvalid where a model answers otherwise than on the day it was made; `data` is its golden.json."""
    golden = read_golden(data, path)
    if drifted := tuple(_drift(golden, model, quick_lesions(), path)):
        raise ModelInvalid(
            f"Expected {model.record.model_id} to answer as on the day it was made, but {drifted[0]}"
            f"{f', and {len(drifted) - 1} more' if len(drifted) > 1 else ''}. Restore the model's folder, or install "
            f"the library versions of requirements.txt; `python -m cadlib model verify --model {path.parent}` shows "
            "all."
        )


def drift(model: "Model", folder: Path) -> tuple[Drift, ...]:
    """Return what differs from golden.json, for all of its lesions.

    Raise ModelInvalid when golden.json is missing, changed, or of other lesions than the ones drawn today.
    """
    path = folder / GOLDEN_FILE
    data = read_checked(folder, GOLDEN_FILE)
    if data is None:
        raise ModelInvalid(f"Expected {path}, but this model has none. Restore the folder.")
    return tuple(_drift(read_golden(data, path), model, all_lesions(), path))


def _answer(model: "Model", lesion: DrawnLesion, prediction: "Prediction") -> GoldenAnswer:
    record = model.record
    inside = record.conformal.of(prediction.probabilities)
    with_facts = None
    if record.evidence is not None:
        with_facts = _with_facts(record, model.with_facts(prediction, FACTS))
    return GoldenAnswer(
        lesion=lesion.name,
        side_px=lesion.side_px,
        probabilities=_shares(prediction),
        malignant_probability=round(prediction.malignant_probability, 6),
        prediction_set=tuple(code for code, within in zip(CODES, inside, strict=True) if within),
        novelty=None if prediction.novelty is None else round(prediction.novelty.score, 4),
        nearest=_nearest(model, prediction),
        decisions=_decisions(record, prediction, with_facts=False),
        with_facts=with_facts,
    )


def _nearest(model: "Model", prediction: "Prediction") -> float | None:
    if model.neighbours is None:
        return None
    top, _ = prediction.ranking()[0]
    cases = model.neighbours.search(prediction.features, prediction.fingerprint, top).cases
    return cases[0].similarity if cases else None


def _with_facts(record: ModelRecord, prediction: "Prediction") -> GoldenWithFacts:
    return GoldenWithFacts(_shares(prediction), _decisions(record, prediction, with_facts=True))


def _shares(prediction: "Prediction") -> dict[str, float]:
    return {
        code: round(float(p), 6) for code, p in zip(CODES, prediction.probabilities, strict=True)
    }


def _decisions(
    record: ModelRecord, prediction: "Prediction", *, with_facts: bool
) -> dict[str, GoldenDecision]:
    decisions: dict[str, GoldenDecision] = {}
    for named in record.operating_points:
        point = record.operating_point(named.name, with_facts=with_facts)
        decision = decide(prediction.malignant_probability, point)
        decisions[named.name] = GoldenDecision(point.threshold, decision.action)
    return decisions


def _drift(
    golden: GoldenFile, model: "Model", lesions: Sequence[DrawnLesion], path: Path
) -> Iterator[Drift]:
    known = {answer.name: answer for answer in golden.answers}
    for today in answers_of(model, lesions):
        if today.name not in known:
            raise ModelInvalid(
                f"Expected {path} to have the answer for {today.name}, but it has not. Write the model anew by "
                f"`python -m cadlib model migrate --model {path.parent}`."
            )
        yield from _compared(known[today.name], today, model.record, golden.tolerance)


def _compared(
    golden: GoldenAnswer, today: GoldenAnswer, record: ModelRecord, tolerance: float
) -> Iterator[Drift]:
    name = golden.name
    yield from _moved(name, "", golden.probabilities, today.probabilities, tolerance)
    if not _near(golden.malignant_probability, today.malignant_probability, tolerance):
        yield Drift(
            name, "malignant probability", golden.malignant_probability, today.malignant_probability
        )
    if _leaves_set(golden, today, record, tolerance):
        yield Drift(
            name,
            "prediction set",
            *(" ".join(one.prediction_set) or "empty" for one in (golden, today)),
        )
    score_tolerance = NOVELTY_TOLERANCE * max(1, golden.novelty or 0)
    yield from _moved_apart(name, "novelty", golden.novelty, today.novelty, score_tolerance)
    yield from _moved_apart(
        name, "similarity of the nearest case", golden.nearest, today.nearest, NEAREST_TOLERANCE
    )
    yield from _decided_otherwise(name, "", golden, today, tolerance)
    if golden.with_facts is None or today.with_facts is None:
        if golden.with_facts is not today.with_facts:
            given = ("none" if one.with_facts is None else "one" for one in (golden, today))
            yield Drift(name, "answer with patient data", *given)
    else:
        lead = "with patient data, "
        yield from _moved(
            name, lead, golden.with_facts.probabilities, today.with_facts.probabilities, tolerance
        )
        yield from _decided_otherwise(name, lead, golden.with_facts, today.with_facts, tolerance)


def _near(golden: float, today: float, tolerance: float) -> bool:
    return abs(golden - today) <= tolerance  # NaN is not near


def _moved(
    name: str, lead: str, golden: dict[str, float], today: dict[str, float], tolerance: float
) -> Iterator[Drift]:
    for code in CODES:
        if not _near(golden[code], today[code], tolerance):
            yield Drift(name, f"{lead}{code}", golden[code], today[code])


def _leaves_set(
    golden: GoldenAnswer, today: GoldenAnswer, record: ModelRecord, tolerance: float
) -> bool:
    """Tell whether a prediction set changed beyond what the rounding of another processor explains."""
    for code in set(golden.prediction_set) ^ set(today.prediction_set):
        quantile = record.conformal.quantiles.get(code)
        if quantile is None or not _near(1 - golden.probabilities[code], quantile, tolerance):
            return True
    return False


def _moved_apart(
    name: str, what: str, golden: float | None, today: float | None, tolerance: float
) -> Iterator[Drift]:
    """Compare a number that a model may not have."""
    if golden is None or today is None:
        if golden is not today:
            yield Drift(name, what, *("none" if one is None else "one" for one in (golden, today)))
    elif not _near(golden, today, tolerance):
        yield Drift(name, what, golden, today)


def _decided_otherwise(
    name: str,
    lead: str,
    golden: GoldenAnswer | GoldenWithFacts,
    today: GoldenAnswer | GoldenWithFacts,
    tolerance: float,
) -> Iterator[Drift]:
    malignant = sum(
        golden.probabilities[code] for code, counts in zip(CODES, MALIGNANT, strict=True) if counts
    )
    for point in sorted(golden.decisions.keys() | today.decisions.keys()):
        before = golden.decisions.get(point)
        now = today.decisions.get(point)
        if before is None or now is None:
            given = ("none" if one is None else "one" for one in (before, now))
            yield Drift(name, f"{lead}operating point {point[:100]!a}", *given)
        elif before.threshold != now.threshold:
            yield Drift(name, f"{lead}{point} threshold", before.threshold, now.threshold)
        elif before.action != now.action and not _near(malignant, before.threshold, tolerance):
            yield Drift(name, f"{lead}{point} decision", before.action, now.action)
