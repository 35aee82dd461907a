"""Diagnoses image files, prints the results, and writes heatmaps on request."""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from cadlib.cli.overlay_names import OverlayNames
from cadlib.cli.usage import UsageError, check_model, make_folder
from cadlib.data.folder_walk import Fault, read_tree
from cadlib.errors import CadError, FactsRejected, ModelInvalid
from cadlib.images import SUPPORTED_SUFFIXES, LesionImage, is_dicom, read_images, start_decoders
from cadlib.images.patient import COARSE_SITES, PatientFacts
from cadlib.metrics.operating_point import DEFAULT_OPERATING_POINT, TARGET_SENSITIVITY, two_digits
from cadlib.model.record import ModelRecord, find_model
from cadlib.taxonomy import CODES, diagnosis

# torch takes seconds to load; `--help` and bad usage do not wait for it.
if TYPE_CHECKING:
    from cadlib.assessment import Assessment
    from cadlib.model.model import Model, Prediction
    from cadlib.model.neighbours import Neighbours


BATCH_SIZE = 8
"""Images in memory at a time; few, because an image may have 40 megapixels."""

QUALITY = {"poor": "Read with care:", "unreadable": "No answer can rest on this picture:"}

Outcome = tuple[Path, "Assessment | CadError"]


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    command.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="image, or folder of images"
    )
    command.add_argument(
        "--model", default="isic2019", help="name under models/, or a path (default: isic2019)"
    )
    command.add_argument(
        "--operating-point",
        default=DEFAULT_OPERATING_POINT,
        metavar="NAME",
        help="threshold to decide by, one of the model's: "
        f"{', '.join(TARGET_SENSITIVITY)} (default: %(default)s). "
        "rule-in refers the fewest lesions; a referral there does not confirm malignancy",
    )
    command.add_argument(
        "--format",
        choices=("table", *PRINTERS),
        default="table",
        help="what to print (default: table)",
    )
    command.add_argument(
        "--age",
        type=float,
        metavar="YEARS",
        help="age of the patient, for all the files and whatever a header says",
    )
    command.add_argument("--sex", help="sex of the patient: female or male")
    command.add_argument(
        "--site", help="where the lesion is, a term of ISIC 2019: 'head/neck', 'upper extremity', …"
    )
    command.add_argument(
        "--heatmap", type=Path, metavar="DIR", help="write an overlay of the top diagnosis there"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    files: list[Path] = []
    faults: list[Fault] = []
    for path in options.files:
        listing = _images_in(path, options.heatmap)
        files += listing.files
        faults += listing.faults
    facts = _facts(options, check_model(options.model))
    if options.heatmap:
        make_folder(options.heatmap)

    # Decoders start while the import and the model load, which take longer.
    start_decoders()

    from cadlib.data.swapped_channels import warning
    from cadlib.model.model import Model

    model = Model.load(options.model)
    tally = _Tally()
    outcomes = _outcomes(model, files, faults, facts, options, tally)
    if options.format == "table":
        measured = _measured_neighbours(options.model, model.record)
        _print_table(outcomes, sys.stdout, measured)
    else:
        PRINTERS[options.format](outcomes, sys.stdout)
    swapped_warning = warning(tally.swapped, tally.assessed)
    if swapped_warning:
        print(f"cadlib: {swapped_warning}", file=sys.stderr)
    return 1 if tally.failed else 0


@dataclass
class _Tally:
    """Counts of files that failed, that were assessed, and that seem to have swapped channels."""

    failed: int = 0
    assessed: int = 0
    swapped: int = 0


def _outcomes(
    model: "Model",
    files: Sequence[Path],
    faults: Sequence[Fault],
    facts: PatientFacts,
    options: argparse.Namespace,
    tally: _Tally,
) -> Iterator[Outcome]:
    """Yield the outcome of each fault and file.

    Overlays are written, failures printed, and both counted in `tally`.
    """
    names = OverlayNames(options.heatmap) if options.heatmap else None
    for fault in faults:
        tally.failed += 1
        print(f"cadlib: {fault.path}: {fault.reason}", file=sys.stderr)
        yield fault.path, CadError(fault.reason)
    bar = tqdm(
        _assess(model, files, facts, options.operating_point),
        total=len(files),
        unit="image",
        disable=len(files) < 2,
        leave=False,
    )
    for file, outcome in bar:
        if names is not None and not isinstance(outcome, CadError):
            outcome, error = _explained(model, file, outcome, options.heatmap, names)
            if error is not None:
                _report_failure(file, error, tally)
        if isinstance(outcome, CadError):
            _report_failure(file, outcome, tally)
        else:
            tally.assessed += 1
            tally.swapped += outcome.quality.swapped
        yield file, outcome


def _report_failure(file: Path, error: CadError, tally: _Tally) -> None:
    tally.failed += 1
    tqdm.write(f"cadlib: {file}: {error}", file=sys.stderr)


def _measured_neighbours(name: str, record: ModelRecord) -> dict[str, Any] | None:
    """Return how often the model was correct by its similar cases, or None if not measured."""
    from cadlib.model.metrics_file import measured

    try:
        figures = measured(find_model(name), record)
    except ModelInvalid:
        # A prediction does not depend on these figures.
        return None
    neighbours: dict[str, Any] | None = figures.get("neighbours")
    return neighbours


def _facts(options: argparse.Namespace, record: ModelRecord) -> PatientFacts:
    """Return the patient facts of the flags; raise UsageError where the model cannot use them."""
    try:
        facts = PatientFacts(options.age, options.sex, options.site)
        if facts.known:
            record.required_evidence()
        record.operating_point(options.operating_point, with_facts=facts.usable)
    except (FactsRejected, ModelInvalid) as error:
        raise UsageError(str(error)) from error
    if facts.site in COARSE_SITES:
        finer = ", ".join(COARSE_SITES[facts.site])
        print(f"The site {facts.site} is not used: the model knows {finer}.", file=sys.stderr)
    return facts


@dataclass(frozen=True)
class _Listing:
    """The images of an argument, and what could not be read of its folder."""

    files: list[Path]
    faults: tuple[Fault, ...] = ()


def _images_in(path: Path, heatmaps: Path | None) -> _Listing:
    """Return the file itself, or the images and faults below a folder.

    Overlays in the folder `heatmaps` are left out. Raise UsageError for a folder without images.
    """
    try:
        is_folder = path.is_dir()
    except OSError:
        # A folder above is closed to this user: reported when the file is read.
        is_folder = False
    if not is_folder:
        return _Listing([path])
    tree = read_tree(path)
    images = []
    for file in tree.files:
        is_overlay = heatmaps is not None and file.resolve().is_relative_to(heatmaps.resolve())
        if _is_image(file) and not is_overlay:
            images.append(file)
    if not images and not tree.faults:
        raise UsageError(
            f"Expected images ({', '.join(SUPPORTED_SUFFIXES)}) in {path} but it holds none."
        )
    return _Listing(images, tree.faults)


def _is_image(path: Path) -> bool:
    """Return whether to read a file of a folder, by its suffix.

    DICOM files often have no suffix, and an index DICOMDIR beside them.
    """
    if path.suffix.lower() in SUPPORTED_SUFFIXES:
        return True
    return not path.suffix and path.name != "DICOMDIR" and is_dicom(path)


def _joined(facts: PatientFacts, header: PatientFacts) -> PatientFacts:
    """Return the facts of the flags, and for those that are missing the header's."""
    stated = {name: fact for name, fact in asdict(facts).items() if fact is not None}
    return replace(header, **stated)


def _assess(
    model: "Model", files: Sequence[Path], facts: PatientFacts, point: str
) -> Iterator[Outcome]:
    """Yield the assessment of each file, or its error, batch by batch."""
    from cadlib.assessment import assess_batch

    takes_facts = model.record.evidence is not None
    images = zip(files, read_images(files), strict=True)
    batch = list(islice(images, BATCH_SIZE))
    while batch:
        readable = [image for _, image in batch if isinstance(image, LesionImage)]
        image_facts = [PatientFacts() for _ in readable]
        if takes_facts:
            image_facts = [_joined(facts, image.facts) for image in readable]
        assessments = iter(assess_batch(model, readable, point, image_facts))
        for file, image in batch:
            yield file, next(assessments) if isinstance(image, LesionImage) else image
        batch = list(islice(images, BATCH_SIZE))


def _explained(
    model: "Model", file: Path, assessment: "Assessment", folder: Path, names: OverlayNames
) -> tuple["Assessment", CadError | None]:
    """Write the overlay of the top diagnosis.

    Return the assessment with its heatmap, and the error where there is no overlay.
    """
    from PIL import Image

    from cadlib.saliency.heatmap import activation_map, overlay

    code, _ = assessment.prediction.ranking()[0]
    name = names.take(file.stem, f"_{assessment.image.sha256[:8]}_{code}.png")
    try:
        heatmap = activation_map(model, assessment.image, assessment.prediction, code)
        assessment = replace(assessment, heatmap=heatmap)
        Image.fromarray(overlay(assessment.image, heatmap)).save(folder / name)
    except CadError as error:
        return assessment, error
    except OSError as error:
        return assessment, CadError(f"The heatmap could not be written to {folder}: {error}.")
    return assessment, None


def _print_table(outcomes: Iterator[Outcome], out: TextIO, measured: dict[str, Any] | None) -> None:
    """Print the assessments as text; `measured` are the model's figures of similar cases."""
    for file, outcome in outcomes:
        if isinstance(outcome, CadError):
            continue
        for line in _lines(file, outcome, measured):
            tqdm.write(line, file=out)


def _lines(file: Path, assessment: "Assessment", measured: dict[str, Any] | None) -> Iterator[str]:
    """Yield the text of an assessment in parts."""
    quality = assessment.quality
    novelty = assessment.novelty
    yield f"{file}\n  {assessment.decision.sentence}"
    if quality.flagged:
        yield f"  {QUALITY[quality.severity]} {quality.sentence}"
    if novelty and not novelty.known:
        yield f"  Not a known kind of picture: {novelty.sentence}"
    yield from _ranking(assessment.prediction)
    if assessment.neighbours:
        # The figures were measured without patient data.
        figures = None if assessment.prediction.facts else measured
        yield _similar(assessment.neighbours, figures)


def _ranking(prediction: "Prediction") -> Iterator[str]:
    """Yield a line for each diagnosis, the most probable first."""
    moved_by_code = dict(zip(CODES, prediction.moved.tolist(), strict=True))
    for code, probability in prediction.ranking():
        d = diagnosis(code)
        line = f"  {code:<5}{d.name:<25}{d.mark} {d.group:<11}{two_digits(probability):>5}"
        if prediction.facts:
            line += f"  {moved_by_code[code]:+.2f} by age, sex, site"
        yield line


def _similar(neighbours: "Neighbours", measured: dict[str, Any] | None) -> str:
    """Return the similar training images, and how often such agreement was correct."""
    from cadlib.model.neighbours.agreement import about_the_agreement

    cases = ", ".join(f"{case.image} {case.diagnosis}" for case in neighbours.cases)
    agreement = ""
    if measured and not neighbours.itself:
        agreement = f"    {about_the_agreement(neighbours, measured)}\n"
    text = f"  Similar training images: {neighbours.sentence}\n{agreement}    {cases}"
    if neighbours.itself:
        image = neighbours.itself.image
        code = neighbours.itself.diagnosis
        identity = f"This picture is the training image {image}, {code}"
        text = f"  {identity}: the model has learnt its label.\n{text}"
    return text


def _print_json(outcomes: Iterator[Outcome], out: TextIO) -> None:
    from cadlib.assessment import json_row

    rows = [json_row(str(file), _assessment_or_reason(outcome)) for file, outcome in outcomes]
    json.dump(rows, out, indent=2, ensure_ascii=False)
    out.write("\n")


def _print_csv(outcomes: Iterator[Outcome], out: TextIO) -> None:
    from cadlib.assessment import CSV_COLUMNS, csv_row

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
