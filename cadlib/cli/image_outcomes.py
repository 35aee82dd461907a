"""Assesses image files in batches, and writes their overlays."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from cadlib.cli.overlay_names import OverlayNames
from cadlib.cli.prediction_output import Outcome
from cadlib.data.folder_walk import Fault
from cadlib.errors import CadError
from cadlib.images import LesionImage, read_images
from cadlib.images.patient import PatientFacts

# ONNX Runtime takes a while to load; bad usage does not wait for it.
if TYPE_CHECKING:
    from cadlib.assessment import Assessment
    from cadlib.model.model import Model


BATCH_SIZE = 8
"""Images in memory at a time; few, because an image may have 40 megapixels."""


@dataclass(frozen=True)
class Request:
    """How to assess images: facts on the patient, the operating point, a folder for overlays."""

    facts: PatientFacts
    operating_point: str
    heatmaps: Path | None


@dataclass
class Tally:
    """Counts of files that failed, that were assessed, and that seem to have swapped channels."""

    failed: int = 0
    assessed: int = 0
    swapped: int = 0


def assess_files(
    model: "Model",
    files: Sequence[Path],
    faults: Sequence[Fault],
    request: Request,
    tally: Tally,
) -> Iterator[Outcome]:
    """Yield the outcome of each fault and file.

    Overlays are written, failures printed, and both counted in `tally`.
    """
    names = OverlayNames(request.heatmaps) if request.heatmaps else None
    for fault in faults:
        tally.failed += 1
        print(f"cadlib: {fault.path}: {fault.reason}", file=sys.stderr)
        yield fault.path, CadError(fault.reason)
    bar = tqdm(
        _assess(model, files, request),
        total=len(files),
        unit="image",
        # A single image needs no bar.
        disable=len(files) < 2,
        leave=False,
    )
    for file, outcome in bar:
        if request.heatmaps and names and not isinstance(outcome, CadError):
            outcome, error = _explained(model, file, outcome, request.heatmaps, names)
            if error is not None:
                _report_failure(file, error, tally)
        if isinstance(outcome, CadError):
            _report_failure(file, outcome, tally)
        else:
            tally.assessed += 1
            tally.swapped += outcome.quality.swapped
        yield file, outcome


def _report_failure(file: Path, error: CadError, tally: Tally) -> None:
    tally.failed += 1
    # `print` would break the progress bar.
    tqdm.write(f"cadlib: {file}: {error}", file=sys.stderr)


def _joined(facts: PatientFacts, header: PatientFacts) -> PatientFacts:
    """Return the facts of the flags, and for those that are missing the header's."""
    stated = {name: fact for name, fact in asdict(facts).items() if fact is not None}
    return replace(header, **stated)


def _assess(model: "Model", files: Sequence[Path], request: Request) -> Iterator[Outcome]:
    """Yield the assessment of each file, or its error, batch by batch."""
    from cadlib.assessment import assess_batch

    takes_facts = model.record.evidence is not None
    images = zip(files, read_images(files), strict=True)
    batch = list(islice(images, BATCH_SIZE))
    while batch:
        readable = [image for _, image in batch if isinstance(image, LesionImage)]
        image_facts = [PatientFacts() for _ in readable]
        if takes_facts:
            image_facts = [_joined(request.facts, image.facts) for image in readable]
        # Only readable images have an assessment, in the order of the files.
        assessments = iter(assess_batch(model, readable, request.operating_point, image_facts))
        for file, image in batch:
            yield file, next(assessments) if isinstance(image, LesionImage) else image
        batch = list(islice(images, BATCH_SIZE))


def _explained(
    model: "Model",
    file: Path,
    assessment: "Assessment",
    folder: Path,
    names: OverlayNames,
) -> tuple["Assessment", CadError | None]:
    """Write the overlay of the top diagnosis.

    Return the assessment with its heatmap, and the error where there is no overlay.
    """
    from PIL import Image

    from cadlib.assessment import heatmap_of
    from cadlib.saliency.heatmap import overlay

    code, _ = assessment.prediction.ranking()[0]
    name = names.take(file.stem, f"_{assessment.image.sha256[:8]}_{code}.png")
    try:
        heatmap = heatmap_of(model, assessment, code)
        assessment = replace(assessment, heatmap=heatmap)
        Image.fromarray(overlay(assessment.image, heatmap)).save(folder / name)
    except CadError as error:
        return assessment, error
    except OSError as error:
        return assessment, CadError(f"The heatmap could not be written to {folder}: {error}.")
    return assessment, None
