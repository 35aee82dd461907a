"""Prints the outcomes of `predict` as text, JSON or CSV."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from cadlib.errors import CadError
from cadlib.metrics.operating_point import two_digits
from cadlib.taxonomy import CODES, diagnosis

# ONNX Runtime takes a while to load; bad usage does not wait for it.
if TYPE_CHECKING:
    from cadlib.assessment import Assessment
    from cadlib.metrics.conditions_schema import SimilarCases
    from cadlib.model.model import Prediction
    from cadlib.model.neighbours import Neighbours

QUALITY = {
    "poor": "Read with care:",
    "unreadable": "No reliable result is possible for this image:",
}

Outcome = tuple[Path, "Assessment | CadError"]
"""A file, and its assessment or the error why it has none."""


def print_table(
    outcomes: Iterator[Outcome],
    out: TextIO,
    measured: "SimilarCases | None",
) -> None:
    """Print the assessments as text; `measured` are the model's metrics of similar cases."""
    for file, outcome in outcomes:
        # Errors were printed on the error stream already.
        if isinstance(outcome, CadError):
            continue
        for line in _lines(file, outcome, measured):
            tqdm.write(line, file=out)


def _lines(file: Path, assessment: "Assessment", measured: "SimilarCases | None") -> Iterator[str]:
    """Yield the text of an assessment in parts."""
    quality = assessment.quality
    novelty = assessment.novelty
    yield f"{file}\n  {assessment.decision.sentence}"
    if assessment.spread_sentence:
        yield f"  {assessment.spread_sentence}"
    if quality.flagged:
        yield f"  {QUALITY[quality.severity]} {quality.sentence}"
    if novelty and not novelty.known:
        yield f"  Not a known type of image: {novelty.sentence}"
    yield from _ranking(assessment.prediction)
    if assessment.neighbours:
        # The agreement was measured without patient data.
        agreement = None if assessment.prediction.facts else measured
        yield _similar(assessment.neighbours, agreement)


def _ranking(prediction: "Prediction") -> Iterator[str]:
    """Yield a line for each diagnosis, the most probable first."""
    moved_by_code = dict(zip(CODES, prediction.moved.tolist(), strict=True))
    for code, probability in prediction.ranking():
        d = diagnosis(code)
        line = f"  {code:<5}{d.name:<25}{d.mark} {d.group:<11}{two_digits(probability):>5}"
        if prediction.facts:
            line += f"  {moved_by_code[code]:+.2f} by age, sex, site"
        yield line


def _similar(neighbours: "Neighbours", measured: "SimilarCases | None") -> str:
    """Return the similar training images, and how often such agreement was correct."""
    from cadlib.model.neighbours.agreement import about_the_agreement

    cases = ", ".join(f"{case.image} {case.diagnosis}" for case in neighbours.cases)
    agreement = ""
    # The agreement was measured on images that the model was not trained on.
    if measured and not neighbours.itself:
        agreement = f"    {about_the_agreement(neighbours, measured)}\n"
    text = f"  Similar training images: {neighbours.sentence}\n{agreement}    {cases}"
    if neighbours.itself:
        image = neighbours.itself.image
        code = neighbours.itself.diagnosis
        identity = f"This image is the training image {image}, {code}"
        text = f"  {identity}: the model was trained with its label.\n{text}"
    return text


def _print_json(outcomes: Iterator[Outcome], out: TextIO) -> None:
    from cadlib.assessment import json_row

    # A JSON list is written as a whole, so nothing is printed before the last image.
    rows = [json_row(str(file), _assessment_or_reason(outcome)) for file, outcome in outcomes]
    json.dump(rows, out, indent=2, ensure_ascii=False)
    out.write("\n")


def _print_csv(outcomes: Iterator[Outcome], out: TextIO) -> None:
    from cadlib.assessment import CSV_COLUMNS, csv_row

    # The default, CR LF, would leave a CR in the last column of Unix tools.
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for file, outcome in outcomes:
        writer.writerow(csv_row(str(file), _assessment_or_reason(outcome)))


def _assessment_or_reason(outcome: "Assessment | CadError") -> "Assessment | str":
    return str(outcome) if isinstance(outcome, CadError) else outcome


PRINTERS: dict[str, Callable[[Iterator[Outcome], TextIO], None]] = {
    "json": _print_json,
    "csv": _print_csv,
}
