"""Diagnose files and folders: print a table, JSON or CSV, and write heatmaps on request."""

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

if TYPE_CHECKING:  # torch takes seconds; `--help` and bad usage do not wait for it
    from cadlib.assessment import Assessment
    from cadlib.model.model import Model
    from cadlib.model.neighbours import Neighbours


BATCH_SIZE = 8
"""Images held at a time; few, for one may be of 40 megapixels."""

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
        help=f"threshold to decide by, one of the model's: {', '.join(TARGET_SENSITIVITY)} (default: %(default)s). "
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
    """Carry the command out and return its exit code."""
    files: list[Path] = []
    faults: list[Fault] = []
    for given in options.files:
        inside = _images_in(given, options.heatmap)
        files += inside.files
        faults += inside.faults
    facts = _facts(options, check_model(options.model))
    if options.heatmap:
        make_folder(options.heatmap)

    start_decoders()  # beside the import and the model, which take longer

    from cadlib.data.swapped_channels import warning
    from cadlib.model.model import Model

    model = Model.load(options.model)
    tally = _Tally()
    outcomes = _outcomes(model, files, faults, facts, options, tally)
    if options.format == "table":
        _print_table(outcomes, sys.stdout, _measured_neighbours(options.model, model.record))
    else:
        PRINTERS[options.format](outcomes, sys.stdout)
    if told := warning(tally.swapped, tally.assessed):
        print(f"cadlib: {told}", file=sys.stderr)
    return 1 if tally.failed else 0


@dataclass
class _Tally:
    """How many files failed, were assessed, and look as if red and blue were swapped."""

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
    """Yield what came of each fault and file, write overlays, print failures, and count in `tally`."""
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
            outcome, trouble = _explained(model, file, outcome, options.heatmap, names)
            if trouble is not None:
                tally.failed += 1
                tqdm.write(f"cadlib: {file}: {trouble}", file=sys.stderr)
        if isinstance(outcome, CadError):
            tally.failed += 1
            tqdm.write(f"cadlib: {file}: {outcome}", file=sys.stderr)
        else:
            tally.assessed += 1
            tally.swapped += outcome.quality.swapped
        yield file, outcome


def _measured_neighbours(name: str, record: ModelRecord) -> dict[str, Any] | None:
    """Return how often the model was correct by its similar cases; None where that was not measured."""
    from cadlib.model.metrics_file import measured

    try:
        found: dict[str, Any] | None = measured(find_model(name), record).get("neighbours")
    except ModelInvalid:  # an answer does not rest on these figures
        return None
    return found


def _facts(options: argparse.Namespace, record: ModelRecord) -> PatientFacts:
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
class _Inside:
    files: list[Path]
    faults: tuple[Fault, ...] = ()


def _images_in(given: Path, heatmaps: Path | None) -> _Inside:
    """Return the file itself, or the images below a folder, none of our own heatmaps, and the faults met there."""
    try:
        is_folder = given.is_dir()
    except OSError:  # a folder above is closed: reported when the file is read
        is_folder = False
    if not is_folder:
        return _Inside([given])
    tree = read_tree(given)
    images = []
    for path in tree.files:
        ours = heatmaps is not None and path.resolve().is_relative_to(heatmaps.resolve())
        if _is_picture(path) and not ours:
            images.append(path)
    if not images and not tree.faults:
        raise UsageError(
            f"Expected images ({', '.join(SUPPORTED_SUFFIXES)}) in {given} but it holds none."
        )
    return _Inside(images, tree.faults)


def _is_picture(path: Path) -> bool:
    """Say whether a folder's file is to be read: by its suffix; DICOM often has none, and an index beside it."""
    return path.suffix.lower() in SUPPORTED_SUFFIXES or (
        not path.suffix and path.name != "DICOMDIR" and is_dicom(path)
    )


def _joined(given: PatientFacts, header: PatientFacts) -> PatientFacts:
    """Return the facts given, and the header's for those that are not."""
    return replace(
        header, **{name: fact for name, fact in asdict(given).items() if fact is not None}
    )


def _assess(
    model: "Model", files: Sequence[Path], facts: PatientFacts, point: str
) -> Iterator[Outcome]:
    from cadlib.assessment import assess_batch

    reading = zip(files, read_images(files), strict=True)
    while group := list(islice(reading, BATCH_SIZE)):
        readable = [image for _, image in group if isinstance(image, LesionImage)]
        takes = model.record.evidence is not None
        known = [_joined(facts, image.facts) if takes else PatientFacts() for image in readable]
        assessed = iter(assess_batch(model, readable, point, known))
        for file, image in group:
            yield file, next(assessed) if isinstance(image, LesionImage) else image


def _explained(
    model: "Model", file: Path, assessment: "Assessment", folder: Path, names: OverlayNames
) -> tuple["Assessment", CadError | None]:
    """Write the overlay of the top diagnosis; return the assessment with its heatmap, and why there is no overlay."""
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
    for file, outcome in outcomes:
        if isinstance(outcome, CadError):
            continue
        tqdm.write(f"{file}\n  {outcome.decision.sentence}", file=out)
        if outcome.quality.flagged:
            tqdm.write(
                f"  {QUALITY[outcome.quality.severity]} {outcome.quality.sentence}", file=out
            )
        if outcome.novelty and not outcome.novelty.known:
            tqdm.write(f"  Not a known kind of picture: {outcome.novelty.sentence}", file=out)
        moved = dict(zip(CODES, outcome.prediction.moved.tolist(), strict=True))
        for code, probability in outcome.prediction.ranking():
            known = diagnosis(code)
            line = f"  {code:<5}{known.name:<25}{known.mark} {known.group:<11}{two_digits(probability):>5}"
            tqdm.write(
                f"{line}  {moved[code]:+.2f} by age, sex, site"
                if outcome.prediction.facts
                else line,
                file=out,
            )
        if outcome.neighbours:
            # measured without patient data
            tqdm.write(
                _similar(outcome.neighbours, None if outcome.prediction.facts else measured),
                file=out,
            )


def _similar(found: "Neighbours", measured: dict[str, Any] | None) -> str:
    from cadlib.model.neighbours.agreement import about_the_agreement

    cases = ", ".join(f"{case.image} {case.diagnosis}" for case in found.cases)
    agreement = (
        f"    {about_the_agreement(found, measured)}\n" if measured and not found.itself else ""
    )
    said = f"  Similar training images: {found.sentence}\n{agreement}    {cases}"
    if found.itself:
        image, code = found.itself.image, found.itself.diagnosis
        said = f"  This picture is the training image {image}, {code}: the model has learnt its label.\n{said}"
    return said


def _print_json(outcomes: Iterator[Outcome], out: TextIO) -> None:
    from cadlib.assessment import json_row

    rows = [json_row(str(file), _said(outcome)) for file, outcome in outcomes]
    json.dump(rows, out, indent=2, ensure_ascii=False)
    out.write("\n")


def _print_csv(outcomes: Iterator[Outcome], out: TextIO) -> None:
    from cadlib.assessment import CSV_COLUMNS, csv_row

    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)
    rows.writerows(csv_row(str(file), _said(outcome)) for file, outcome in outcomes)


def _said(outcome: "Assessment | CadError") -> "Assessment | str":
    return str(outcome) if isinstance(outcome, CadError) else outcome


PRINTERS: dict[str, Callable[[Iterator[Outcome], TextIO], None]] = {
    "json": _print_json,
    "csv": _print_csv,
}
