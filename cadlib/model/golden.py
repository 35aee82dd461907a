"""Stores and compares a model's original answers for the project's drawn lesions.

These golden answers catch what unit tests miss: changed preprocessing, labels in another order, a
library that computes something else, a moved threshold. A few small lesions are checked whenever a
model is loaded, all of them by `python -m cadlib model verify` and `audit`.
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

# Other processors and versions of ONNX Runtime round differently.
TOLERANCE = 1e-3
"""Tolerance of a probability."""
# OpenCV rounds by its processor too.
NOVELTY_TOLERANCE = 1e-2
"""Tolerance of a novelty score, which is about 1."""
NEAREST_TOLERANCE = 5e-3
"""Tolerance of a cosine between the features of two images."""
FACTS = PatientFacts(70, "male", "head/neck")
"""The patient of the golden answers with facts, for a model that takes them."""
# Both sizes have a temperature of their own, and a small lesion is drawn in a fifth of the time of
# a large one.
_QUICK = ((0, 160), (1, 96))
"""Number and side in px of the demo lesions that are checked at each start."""

# Without it, two threads could draw the lesions at the same time.
_DRAWING = Lock()

Share = Annotated[float, Meta(ge=0, le=1)]


class GoldenDecision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The decision at an operating point."""

    threshold: Share
    action: Literal["refer", "below the referral threshold"]


class GoldenWithFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer for the lesion with the patient facts FACTS."""

    probabilities: dict[str, Share]
    decisions: dict[str, GoldenDecision]


class GoldenAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer for a drawn lesion of a side in px.

    `nearest` is the cosine with the most similar case. `novelty`, `nearest` and `with_facts` are
    None for a model without them.
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
        """Return the lesion's name, with its side unless that is the usual one."""
        side_px = self.side_px
        if side_px == DEMO_SIDE_PX:
            return self.lesion
        return f"{self.lesion} at {side_px} px"


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
    """A part of the answer for a drawn lesion that changed: `golden` is the stored one."""

    lesion: str
    what: str
    golden: float | str
    today: float | str

    @property
    def distance(self) -> float:
        """Return the change of a number: infinity for text, NaN where the model gives NaN."""
        if isinstance(self.golden, str) or isinstance(self.today, str):
            return float("inf")
        return abs(self.today - self.golden)

    def __str__(self) -> str:
        if isinstance(self.golden, str) or isinstance(self.today, str):
            return f"{self.lesion} {self.what}: {self.golden} became {self.today}"
        change = f"{self.golden:.4f} became {self.today:.4f}"
        return f"{self.lesion} {self.what}: {change}, {self.distance:.4f} away"


def quick_lesions() -> tuple[DrawnLesion, ...]:
    """Return the lesions that are checked at each start; they are drawn once for all threads."""
    with _DRAWING:
        return _quick_lesions()


@cache
def _quick_lesions() -> tuple[DrawnLesion, ...]:
    drawn = []
    for number, side_px in _QUICK:
        lesion = demo_lesions()[number]
        pixels = render_lesion(
            lesion.code,
            lesion.seed,
            side_px,
        )
        image = Image.fromarray(pixels)
        drawn_lesion = DrawnLesion(lesion.name, side_px, image)
        drawn.append(drawn_lesion)
    return tuple(drawn)


def all_lesions() -> tuple[DrawnLesion, ...]:
    """Return every lesion of golden.json: the quick ones, and those that the pages offer."""
    drawn = list(quick_lesions())
    for lesion in demo_lesions():
        image = Image.fromarray(lesion.pixels)
        large = DrawnLesion(
            lesion.name,
            DEMO_SIDE_PX,
            image,
        )
        drawn.append(large)
    return tuple(drawn)


def golden_file(model: "Model") -> GoldenFile:
    """Return the content of golden.json for a model."""
    lesions = all_lesions()
    answers = answers_of(model, lesions)
    return GoldenFile(2, TOLERANCE, answers)


def golden_json(model: "Model") -> str:
    """Return the text of golden.json for a model."""
    content = golden_file(model)
    compact = msgspec.json.encode(content)
    indented = msgspec.json.format(compact, indent=2)
    return indented.decode() + "\n"


def read_golden(data: bytes, path: Path) -> GoldenFile:
    """Return the content of a golden.json; raise ModelInvalid for one that cannot be used."""
    golden = convert(parse(data, path), GoldenFile, path)
    for answer in golden.answers:
        shares = [answer.probabilities]
        if answer.with_facts is not None:
            shares.append(answer.with_facts.probabilities)
        for share in shares:
            if set(share) == set(CODES):
                continue
            codes = ", ".join(CODES)
            raise ModelInvalid(
                f"Expected {path} to have a probability for {codes}. Restore the file."
            )
    return golden


def answers_of(model: "Model", lesions: Sequence[DrawnLesion]) -> tuple[GoldenAnswer, ...]:
    """Return the current answers of a model for drawn lesions."""
    images = [lesion.image for lesion in lesions]
    predictions = model.predict_batch(images)
    pairs = zip(lesions, predictions, strict=True)
    return tuple(_answer(model, lesion, prediction) for lesion, prediction in pairs)


def check_quick(model: "Model", data: bytes, path: Path) -> None:
    """Raise ModelInvalid where a model's answers changed; `data` is its golden.json."""
    golden = read_golden(data, path)
    drifted = tuple(_drift(golden, model, quick_lesions(), path))
    if not drifted:
        return
    others = f", and {len(drifted) - 1} more" if len(drifted) > 1 else ""
    raise ModelInvalid(
        f"Expected {model.record.model_id} to give its stored results, "
        f"but {drifted[0]}{others}. "
        "Restore the model's folder, or install the library versions of requirements.txt; "
        f"`python -m cadlib model verify --model {path.parent}` shows all."
    )


def drift(model: "Model", folder: Path) -> tuple[Drift, ...]:
    """Return all differences from golden.json, for all of its lesions.

    Raise ModelInvalid when golden.json is missing, changed, or of other lesions than the current
    drawn ones.
    """
    path = folder / GOLDEN_FILE
    data = read_checked(folder, GOLDEN_FILE)
    if data is None:
        raise ModelInvalid(f"Expected {path}, but this model has none. Restore the folder.")
    golden = read_golden(data, path)
    lesions = all_lesions()
    differences = _drift(golden, model, lesions, path)
    return tuple(differences)


def _answer(model: "Model", lesion: DrawnLesion, prediction: "Prediction") -> GoldenAnswer:
    record = model.record
    inside = record.conformal.of(prediction.probabilities)
    with_facts = None
    if record.evidence is not None:
        with_facts = _with_facts(record, model.with_facts(prediction, FACTS))
    novelty = None
    if prediction.novelty is not None:
        novelty = round(prediction.novelty.score, 4)
    return GoldenAnswer(
        lesion=lesion.name,
        side_px=lesion.side_px,
        probabilities=_shares(prediction),
        malignant_probability=round(prediction.malignant_probability, 6),
        prediction_set=tuple(code for code, within in zip(CODES, inside, strict=True) if within),
        novelty=novelty,
        nearest=_nearest(model, prediction),
        decisions=_decisions(record, prediction, with_facts=False),
        with_facts=with_facts,
    )


def _nearest(model: "Model", prediction: "Prediction") -> float | None:
    if model.neighbours is None:
        return None
    top, _ = prediction.ranking()[0]
    similar = model.neighbours.search(prediction.features, prediction.fingerprint, top)
    if not similar.cases:
        return None
    nearest = similar.cases[0]
    return nearest.similarity


def _with_facts(record: ModelRecord, prediction: "Prediction") -> GoldenWithFacts:
    shares = _shares(prediction)
    decisions = _decisions(
        record,
        prediction,
        with_facts=True,
    )
    return GoldenWithFacts(shares, decisions)


def _shares(prediction: "Prediction") -> dict[str, float]:
    shares: dict[str, float] = {}
    for code, probability in zip(CODES, prediction.probabilities, strict=True):
        share = float(probability)
        shares[code] = round(share, 6)
    return shares


def _decisions(
    record: ModelRecord,
    prediction: "Prediction",
    *,
    with_facts: bool,
) -> dict[str, GoldenDecision]:
    decisions: dict[str, GoldenDecision] = {}
    for named in record.operating_points:
        point = record.operating_point(named.name, with_facts=with_facts)
        decision = decide(prediction.malignant_probability, point)
        stored = GoldenDecision(point.threshold, decision.action)
        decisions[named.name] = stored
    return decisions


def _drift(
    golden: GoldenFile,
    model: "Model",
    lesions: Sequence[DrawnLesion],
    path: Path,
) -> Iterator[Drift]:
    answers = {answer.name: answer for answer in golden.answers}
    for today in answers_of(model, lesions):
        if today.name not in answers:
            raise ModelInvalid(
                f"Expected {path} to have the answer for {today.name}, but it has not. "
                "Write the model again by "
                f"`python -m cadlib model migrate --model {path.parent}`."
            )
        yield from _compared(answers[today.name], today, model.record, golden.tolerance)


def _compared(
    golden: GoldenAnswer,
    today: GoldenAnswer,
    record: ModelRecord,
    tolerance: float,
) -> Iterator[Drift]:
    """Yield the differences of two answers for the same lesion."""
    yield from _compared_image(golden, today, record, tolerance)
    yield from _compared_training(golden, today)
    yield from _decided_otherwise(golden.name, "", golden, today, tolerance)
    yield from _compared_facts(golden, today, tolerance)


def _compared_image(
    golden: GoldenAnswer,
    today: GoldenAnswer,
    record: ModelRecord,
    tolerance: float,
) -> Iterator[Drift]:
    name = golden.name
    yield from _moved(
        name,
        "",
        golden.probabilities,
        today.probabilities,
        tolerance,
    )
    before = golden.malignant_probability
    now = today.malignant_probability
    if not _near(before, now, tolerance):
        yield Drift(name, "malignant probability", before, now)
    if _leaves_set(golden, today, record, tolerance):
        yield Drift(name, "prediction set", _set_text(golden), _set_text(today))


def _compared_training(golden: GoldenAnswer, today: GoldenAnswer) -> Iterator[Drift]:
    """Yield the differences in the comparison with the training images."""
    name = golden.name
    # Far images have scores far above 1, and their rounding grows with them.
    score_tolerance = NOVELTY_TOLERANCE * max(1, golden.novelty or 0)
    yield from _moved_apart(name, "novelty", golden.novelty, today.novelty, score_tolerance)
    what = "similarity of the nearest case"
    yield from _moved_apart(name, what, golden.nearest, today.nearest, NEAREST_TOLERANCE)


def _compared_facts(
    golden: GoldenAnswer,
    today: GoldenAnswer,
    tolerance: float,
) -> Iterator[Drift]:
    name = golden.name
    before = golden.with_facts
    now = today.with_facts
    if before is None or now is None:
        if before is not now:
            yield Drift(name, "answer with patient data", _presence(before), _presence(now))
        return
    lead = "with patient data, "
    yield from _moved(
        name,
        lead,
        before.probabilities,
        now.probabilities,
        tolerance,
    )
    yield from _decided_otherwise(name, lead, before, now, tolerance)


def _set_text(answer: GoldenAnswer) -> str:
    return " ".join(answer.prediction_set) or "empty"


def _presence(value: object | None) -> str:
    return "none" if value is None else "one"


def _near(golden: float, today: float, tolerance: float) -> bool:
    # This form is False for NaN, which is not near anything.
    return abs(golden - today) <= tolerance


def _moved(
    name: str,
    lead: str,
    golden: dict[str, float],
    today: dict[str, float],
    tolerance: float,
) -> Iterator[Drift]:
    for code in CODES:
        before = golden[code]
        now = today[code]
        if not _near(before, now, tolerance):
            yield Drift(name, f"{lead}{code}", before, now)


def _leaves_set(
    golden: GoldenAnswer,
    today: GoldenAnswer,
    record: ModelRecord,
    tolerance: float,
) -> bool:
    """Return whether a prediction set changed more than the rounding of a processor explains."""
    for code in set(golden.prediction_set) ^ set(today.prediction_set):
        quantile = getattr(record.conformal.quantiles, code, None)
        # A score at its quantile can fall on either side by rounding.
        score = 1 - golden.probabilities[code]
        if quantile is None or not _near(score, quantile, tolerance):
            return True
    return False


def _moved_apart(
    name: str,
    what: str,
    golden: float | None,
    today: float | None,
    tolerance: float,
) -> Iterator[Drift]:
    """Compare a number that a model may not have."""
    if golden is None or today is None:
        if golden is not today:
            yield Drift(name, what, _presence(golden), _presence(today))
    elif not _near(golden, today, tolerance):
        yield Drift(name, what, golden, today)


def _malignant_sum(probabilities: dict[str, float]) -> float:
    malignant = 0.0
    for code, is_malignant in zip(CODES, MALIGNANT, strict=True):
        if is_malignant:
            malignant += probabilities[code]
    return malignant


def _decided_otherwise(
    name: str,
    lead: str,
    golden: GoldenAnswer | GoldenWithFacts,
    today: GoldenAnswer | GoldenWithFacts,
    tolerance: float,
) -> Iterator[Drift]:
    malignant = _malignant_sum(golden.probabilities)
    for point in sorted(golden.decisions.keys() | today.decisions.keys()):
        before = golden.decisions.get(point)
        now = today.decisions.get(point)
        if before is None or now is None:
            what = f"{lead}operating point {point[:100]!a}"
            yield Drift(name, what, _presence(before), _presence(now))
        elif before.threshold != now.threshold:
            yield Drift(name, f"{lead}{point} threshold", before.threshold, now.threshold)
        elif before.action != now.action and not _near(malignant, before.threshold, tolerance):
            yield Drift(name, f"{lead}{point} decision", before.action, now.action)
