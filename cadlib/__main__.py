"""The command line: parse, call, print. `python -m cadlib --help` lists the commands."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from cadlib.decision import two_digits
from cadlib.errors import CadError, FactsRejected, ModelInvalid
from cadlib.images import SUPPORTED_SUFFIXES, LesionImage, read_images
from cadlib.metadata import PatientFacts
from cadlib.record import ModelRecord, find_model, read_record
from cadlib.taxonomy import CLASSES, CODES, diagnosis

if TYPE_CHECKING:  # torch takes seconds; `--help` and bad usage do not wait for it
    from cadlib.assessment import Assessment
    from cadlib.model import Model
    from cadlib.train_config import TrainConfig

BATCH_SIZE = 8
"""Images held at a time; few, for one may be of 40 megapixels."""

Outcome = tuple[Path, "Assessment | CadError"]


class UsageError(CadError):
    """The command cannot be carried out as it was given; nothing has been done."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 for success, 1 if something failed, 2 for bad usage, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that has no ▲, a file name that is no text
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except CadError as error:
        print(f"cadlib: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        print(f"cadlib: {error}. Check the disk and the rights of the folder.", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"cadlib: {str(stop) or 'Stopped.'}", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    root = argparse.ArgumentParser(
        prog="python -m cadlib",
        description="Computer-aided diagnosis of skin lesions: it supports a reader, never replaces one.",
    )
    commands = root.add_subparsers(required=True, metavar="command")
    _add_predict(commands.add_parser("predict", help="diagnose images"))
    _add_evaluate(commands.add_parser("evaluate", help="compare a model with the labels of a data set"))
    _add_robustness(commands.add_parser("robustness", help="measure what damaged and turned pictures cost a model"))
    _add_train(commands.add_parser("train", help="train a model on images with labels"))
    _add_audit(commands.add_parser("audit", help="look for leaks in a model's split, and for drift of its answers"))
    _add_across(commands.add_parser("across", help="what a model loses on an archive it was not trained on"))
    _add_download(commands.add_parser("download", help="fetch the data set of ISIC 2019, or a small sample"))
    return root


# predict


def _add_predict(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_predict)
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="image, or folder of images")
    command.add_argument("--model", default="isic2019", help="name under models/, or a path (default: isic2019)")
    command.add_argument("--format", choices=PRINTERS, default="table", help="what to print (default: table)")
    command.add_argument("--age", type=float, metavar="YEARS", help="age of the patient, for all the files")
    command.add_argument("--sex", help="sex of the patient: female or male")
    command.add_argument("--site", help="where the lesion is, a term of ISIC 2019: 'head/neck', 'upper extremity', …")
    command.add_argument("--heatmap", type=Path, metavar="DIR", help="write an overlay of the top diagnosis there")


def _predict(options: argparse.Namespace) -> int:
    files = [file for given in options.files for file in _images_in(given, options.heatmap)]
    facts = _facts(options, _check_model(options.model))
    if options.heatmap:
        _make_folder(options.heatmap)

    from cadlib.model import Model

    model = Model.load(options.model)
    failed = 0

    def outcomes() -> Iterator[Outcome]:
        nonlocal failed
        for file, outcome in tqdm(
            _assess(model, files, facts), total=len(files), unit="image", disable=len(files) < 2, leave=False
        ):
            if options.heatmap and not isinstance(outcome, CadError):
                outcome = _explained(model, file, outcome, options.heatmap)
            if isinstance(outcome, CadError):
                failed += 1
                tqdm.write(f"cadlib: {file}: {outcome}", file=sys.stderr)
            yield file, outcome

    PRINTERS[options.format](outcomes(), sys.stdout)
    return 1 if failed else 0


def _facts(options: argparse.Namespace, record: ModelRecord) -> PatientFacts:
    try:
        facts = PatientFacts(options.age, options.sex, options.site)
        if facts.known:
            record.required_evidence()
    except FactsRejected as error:
        raise UsageError(str(error)) from error
    return facts


def _images_in(given: Path, heatmaps: Path | None) -> list[Path]:
    """Return the file itself, or the images in a folder: no hidden ones, none of our own heatmaps."""
    if not given.is_dir():
        return [given]
    pictures = (path for path in given.rglob("*") if path.suffix.lower() in SUPPORTED_SUFFIXES and path.is_file())
    found = sorted(
        path
        for path in pictures
        if not path.name.startswith(".") and not (heatmaps and path.resolve().is_relative_to(heatmaps.resolve()))
    )
    if not found:
        raise UsageError(f"Expected images ({', '.join(SUPPORTED_SUFFIXES)}) in {given} but it holds none.")
    return found


def _assess(model: "Model", files: Sequence[Path], facts: PatientFacts) -> Iterator[Outcome]:
    from cadlib.assessment import assess_batch

    reading = zip(files, read_images(files), strict=True)
    while group := list(islice(reading, BATCH_SIZE)):
        readable = [image for _, image in group if isinstance(image, LesionImage)]
        assessed = iter(assess_batch(model, readable, facts=facts))
        for file, image in group:
            yield file, next(assessed) if isinstance(image, LesionImage) else image


def _explained(model: "Model", file: Path, assessment: "Assessment", folder: Path) -> "Assessment | CadError":
    """Write the overlay of the top diagnosis; return the assessment with its heatmap, or why there is none."""
    from dataclasses import replace

    from PIL import Image

    from cadlib.saliency import explain, overlay

    code, _ = assessment.prediction.ranking()[0]
    name = f"{file.stem}_{assessment.image.sha256[:8]}_{code}.png"
    try:
        heatmap = explain(model, assessment.image, code)
        Image.fromarray(overlay(assessment.image, heatmap)).save(folder / name)
    except CadError as error:
        return error
    except OSError as error:
        return CadError(f"The heatmap could not be written to {folder}: {error}.")
    return replace(assessment, heatmap=heatmap)


def _print_table(outcomes: Iterator[Outcome], out: TextIO) -> None:
    for file, outcome in outcomes:
        if isinstance(outcome, CadError):
            continue
        tqdm.write(f"{file}\n  {outcome.decision.sentence}", file=out)
        moved = dict(zip(CODES, outcome.prediction.moved.tolist(), strict=True))
        for code, probability in outcome.prediction.ranking():
            known = diagnosis(code)
            line = f"  {code:<5}{known.name:<25}{known.mark} {known.group:<11}{two_digits(probability):>5}"
            tqdm.write(f"{line}  {moved[code]:+.2f} by age, sex, site" if outcome.prediction.facts else line, file=out)


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
    "table": _print_table,
    "json": _print_json,
    "csv": _print_csv,
}


# evaluate


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_evaluate)
    command.add_argument("--model", help="name under models/, or a path")
    command.add_argument("--predictions", type=Path, help="instead of a model: the predictions.csv of one, read again")
    command.add_argument("--images", type=Path, help="folder of images, named by their ids")
    command.add_argument("--ground-truth", type=Path, help="CSV of ISIC: image, one column a class")
    command.add_argument("--metadata", type=Path, help="CSV of ISIC: image, age_approx, sex, lesion_id, …")
    command.add_argument("--data", type=Path, help="instead of these three: a folder of ISIC 2019 layout")
    command.add_argument(
        "--split", choices=("validation", "test"), help="of --data only this part of the model's split"
    )
    command.add_argument("--with-metadata", action="store_true", help="add what age, sex and site say")
    command.add_argument("--output", type=Path, required=True, help="folder for predictions.csv and metrics.json")
    command.add_argument(
        "--classes", type=int, choices=CLASSES, default=len(CODES), help="7: as ISIC 2018 Task 3 scores, AK with SCC"
    )
    command.add_argument("--into-model", action="store_true", help="with --split: they become the model's own figures")


def _evaluate(options: argparse.Namespace) -> int:
    _check_evaluate(options)
    if options.predictions:
        return _evaluate_predictions(options)
    record = _check_model(options.model)
    if options.with_metadata and record.evidence is None:
        raise UsageError(f"Expected no --with-metadata: {record.model_id} takes no age, sex or site.")
    _make_folder(options.output)

    from cadlib import evaluation
    from cadlib.dataset import join_dataset, open_dataset
    from cadlib.model import Model

    print(f"Evaluating {record.model_id}", file=sys.stderr)
    if options.data:
        dataset = open_dataset(options.data, verify=False)
    else:
        dataset = join_dataset(options.images, options.ground_truth, options.metadata, verify=False)
    print(dataset.report, file=sys.stderr)
    if options.split:
        dataset = evaluation.part_of_split(find_model(options.model), record, dataset, options.split)
        asked = record.training.images[options.split]
        print(f"{len(dataset.table):,} of the {asked:,} images of the {options.split} split", file=sys.stderr)
    with tqdm(total=len(dataset.table), unit="image", leave=False) as bar:
        found = evaluation.evaluate(
            Model.load(options.model),
            dataset,
            lambda done, _: bar.update(done - bar.n) and None,
            split=options.split,
            classes=CLASSES[options.classes],
            with_metadata=options.with_metadata,
        )
    if options.into_model and (lacking := asked - len(found.predictions)):
        raise CadError(f"Expected all {asked:,} images of the split for the model's own figures but {lacking:,} lack.")
    try:
        found.write(options.output)
        if options.into_model:
            evaluation.write_into(find_model(options.model), record, found.metrics)
    except OSError as error:
        raise CadError(f"The results could not be written to {options.output}: {error}.") from error
    print(found)
    print(f"\n{record.model_id}: {record.validation_claim}")
    return 1 if found.rejected or dataset.report.count("unreadable images") else 0


def _evaluate_predictions(options: argparse.Namespace) -> int:
    _make_folder(options.output)

    from cadlib.evaluation import evaluate_predictions
    from cadlib.predictions import join_predictions

    dataset, probabilities = join_predictions(options.predictions, options.ground_truth, options.metadata)
    print(dataset.report, file=sys.stderr)
    found = evaluate_predictions(dataset, probabilities, CLASSES[options.classes])
    try:
        found.write(options.output)
    except OSError as error:
        raise CadError(f"The results could not be written to {options.output}: {error}.") from error
    print(found)
    return 0


def _check_evaluate(options: argparse.Namespace) -> None:
    tables = (options.images, options.ground_truth, options.metadata)
    for given in (*tables, options.data, options.predictions):
        if given is not None and not given.exists():
            raise UsageError(f"Expected {given} to exist but there is no such file or folder.")
    if (options.model is None) == (options.predictions is None):
        raise UsageError("Expected either --model or --predictions, the predictions.csv that an evaluation wrote.")
    if options.predictions:
        _check_evaluate_predictions(options)
    else:
        _check_evaluate_model(options, tables)


def _check_evaluate_predictions(options: argparse.Namespace) -> None:
    if options.ground_truth is None:
        raise UsageError("Expected --ground-truth with --predictions: the labels to compare them with.")
    if options.images or options.data or options.split or options.into_model:
        raise UsageError("Expected --predictions with --ground-truth and --metadata alone: no image is read again.")


def _check_evaluate_model(options: argparse.Namespace, tables: tuple[Path | None, ...]) -> None:
    if options.data is None and None in (options.images, options.ground_truth):
        raise UsageError("Expected --images with --ground-truth, or --data with a folder of ISIC 2019 layout.")
    if options.data is not None and any(given is not None for given in tables):
        raise UsageError("Expected --data or single files but got both; the folder of --data holds its CSV files.")
    if options.with_metadata and options.into_model:
        raise UsageError("Expected --into-model without --with-metadata: the model's own figures are of images alone.")
    if (options.split and not options.data) or (options.into_model and not options.split):
        raise UsageError("Expected --split together with --data, and --into-model together with --split.")
    if options.into_model and options.classes != len(CODES):
        raise UsageError(f"Expected --into-model with the {len(CODES)} classes of the model, without --classes.")


# robustness


def _add_robustness(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_robustness)
    command.add_argument("--model", default="isic2019", help="name under models/, or a path (default: isic2019)")
    command.add_argument("--data", type=Path, required=True, help="folder of ISIC 2019 layout")
    command.add_argument(
        "--split", choices=("validation", "test"), default="validation", help="part of the model's own split"
    )
    command.add_argument("--images", type=int, metavar="N", help="a random sample with every diagnosis and archive")
    command.add_argument("--seed", type=int, default=0, help="of the sample and of what is drawn (default: 0)")
    command.add_argument("--output", type=Path, metavar="DIR", help="folder for robustness.json")
    command.add_argument("--into-model", action="store_true", help="put it into the model's metrics.json and card")


def _robustness(options: argparse.Namespace) -> int:
    record = _check_model(options.model)
    folder = find_model(options.model)
    if not options.data.is_dir():
        raise UsageError(f"Expected a folder of images with their CSV files but there is no folder {options.data}.")
    if options.seed < 0 or (options.images is not None and options.images < 1):
        raise UsageError(f"Expected --seed from 0 and --images from 1 but got {options.seed} and {options.images}.")
    if options.output:
        _make_folder(options.output)

    from cadlib import evaluation, robustness
    from cadlib.dataset import open_dataset
    from cadlib.model import Model
    from cadlib.sampling import stratified_sample

    if options.into_model:  # asked before the hours of work, not after
        evaluation.measured(folder, record)
    dataset = evaluation.part_of_split(folder, record, open_dataset(options.data, verify=False), options.split)
    of = len(dataset.table)
    if options.images is not None:
        dataset = stratified_sample(dataset, options.images, options.seed)
    print(f"{len(dataset.table):,} of {of:,} images of the {options.split} split, 83 ways each", file=sys.stderr)
    with tqdm(unit="picture", leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = robustness.measure(Model.load(folder), dataset, options.split, options.seed, of, progress)
    if options.output:
        (options.output / "robustness.json").write_text(found.to_json(), encoding="utf-8")
    if options.into_model:
        figures = {**evaluation.measured(folder, record), "robustness": found.figures}
        evaluation.write_into(folder, record, figures)
    print(found)
    return 1 if found.figures["rejected"] else 0


# audit


def _add_audit(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_audit)
    command.add_argument("--data", type=Path, help="folder of ISIC 2019 layout: duplicates, and labels that contradict")
    command.add_argument("--model", help="name under models/, or a path: its golden figures, with --data its split")
    command.add_argument("--sheet", type=Path, metavar="FILE", help="with --data: write the pictures to an HTML file")
    command.add_argument("--into-model", action="store_true", help="the result becomes part of the model and its card")


def _audit(options: argparse.Namespace) -> int:
    record = _check_audit(options)
    drifted = record is not None and _print_drift(options.model, record)
    if options.data is None:
        return 1 if drifted else 0

    from cadlib import audit, audit_sheet
    from cadlib.dataset import open_dataset
    from cadlib.duplicates import find_duplicates
    from cadlib.model import Model

    dataset = open_dataset(options.data, verify=False)
    print(dataset.report, file=sys.stderr)
    with _Bars(images=True) as bars:
        if record is None:
            alone = find_duplicates(dataset, bars.progress)
        else:
            found = audit.audit_split(Model.load(options.model), find_model(options.model), dataset, bars.progress)
    print(alone if record is None else found)
    if options.sheet:
        page = audit_sheet.render(alone) if record is None else audit_sheet.render(found.duplicates, found)
        _write(options.sheet, page)
    if options.into_model and record is not None:
        if drifted or found.missing:
            raise CadError(
                f"Expected all images of the split, and a model that answers as it was made, but {found.missing:,} "
                f"images lack{' and its answers drifted' if drifted else ''}; the model is left as it was."
            )
        audit.write_into(find_model(options.model), record, found.result)
    return 1 if drifted or (record is not None and found.result.leaks) else 0


def _check_audit(options: argparse.Namespace) -> ModelRecord | None:
    if options.data is None and options.model is None:
        raise UsageError("Expected --data with a folder of ISIC 2019 layout, --model with a model, or both.")
    if options.data is not None and not options.data.is_dir():
        raise UsageError(f"Expected a folder of images with their CSV files but there is no folder {options.data}.")
    if options.data is None and options.sheet:
        raise UsageError("Expected --sheet together with --data, from where its pictures come.")
    if options.into_model and None in (options.data, options.model):
        raise UsageError("Expected --into-model together with --data and --model.")
    if options.sheet:
        _make_folder(options.sheet.absolute().parent)
    return _check_model(options.model) if options.model is not None else None


def _print_drift(name: str, record: ModelRecord) -> bool:
    """Compare a model with its golden figures; print and return whether it drifted."""
    from cadlib import golden
    from cadlib.model import Model

    drifted = golden.drift(Model.load(name), find_model(name))
    for one in drifted:
        print(f"{record.model_id} drifted: {one}")
    if not drifted:
        print(f"{record.model_id}: its weights are those of its record, its answers as on the day it was made")
    return bool(drifted)


# train


def _add_train(command: argparse.ArgumentParser) -> None:
    from cadlib.train_config import TrainConfig

    command.set_defaults(run=_train)
    command.add_argument("--data", type=Path, required=True, help="folder of ISIC 2019 layout")
    command.add_argument("--name", required=True, help="name of the model, a folder under models/")
    command.add_argument("--model-version", default="1.0.0", help="version of the model (default: 1.0.0)")
    command.add_argument("--overwrite", action="store_true", help="replace a model of this name, and its run")
    command.add_argument("--run-dir", type=Path, help="checkpoint, split and history (default: runs/NAME)")
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    _add_settings(command, TrainConfig())


def _train(options: argparse.Namespace) -> int:
    config = _settings(options)
    with _training_packages():
        from cadlib import packing, training
        from cadlib.run import CHECKPOINT_FILE

    try:
        packing.check_name(options.name, overwrite=options.overwrite)
    except CadError as error:
        raise UsageError(str(error)) from error
    run_dir = options.run_dir or Path("runs") / options.name
    if (run_dir / CHECKPOINT_FILE).exists() and not (options.resume or options.overwrite):
        raise UsageError(f"A run stands in {run_dir}: go on with --resume, or start anew with --overwrite.")
    try:
        trained = training.train(options.data, run_dir, config, resume=options.resume)
    except OSError as error:
        raise CadError(f"The run cannot go on: {error}. Make room or mend the rights, then give --resume.") from error
    if trained is not None:
        folder = packing.pack(trained, options.name, options.model_version, overwrite=options.overwrite)
        print((folder / "README.md").read_text(encoding="utf-8"))
        print(f"Model written to {folder}")
    return 0


# across


def _add_across(command: argparse.ArgumentParser) -> None:
    from cadlib.train_config import ACROSS_RECIPE

    command.set_defaults(run=_across)
    command.add_argument("--data", type=Path, required=True, help="folder of ISIC 2019 layout")
    command.add_argument("--run-dir", type=Path, default=Path("runs/across"), help="the runs (default: runs/across)")
    command.add_argument("--resume", action="store_true", help="go on where the runs were stopped")
    command.add_argument("--overwrite", action="store_true", help="delete the runs that stand there, and begin anew")
    command.add_argument("--output", type=Path, metavar="DIR", help="folder for across.json (default: the runs')")
    command.add_argument("--into-model", metavar="NAME", help="model whose metrics.json and card get the result too")
    _add_settings(command, ACROSS_RECIPE, without=("leave_out", "devices", "nodes", "strategy"))


def _across(options: argparse.Namespace) -> int:
    config = _settings(options)
    output = options.output or options.run_dir
    record = _check_model(options.into_model) if options.into_model else None
    with _training_packages():
        from cadlib.across import across_archives
        from cadlib.run import CHECKPOINT_FILE
    from cadlib import evaluation, tables

    standing = any(options.run_dir.glob(f"*/{CHECKPOINT_FILE}"))
    if standing and not (options.resume or options.overwrite):
        raise UsageError(f"Runs stand in {options.run_dir}: go on with --resume, or start anew with --overwrite.")
    found = {"across_archives": across_archives(options.data, options.run_dir, config, resume=options.resume)}
    _make_folder(output)
    (output / "across.json").write_text(evaluation.metrics_json(found), encoding="utf-8")
    if record:
        folder = find_model(options.into_model)
        evaluation.write_into(folder, record, {**evaluation.measured(folder, record), **found})
    print(tables.across_table(found["across_archives"]))
    return 0


# download


def _add_download(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_download)
    command.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder that is to hold the data set")
    command.add_argument("--mirror", metavar="URL", help="folder on a server that holds a copy of ISIC's files")
    command.add_argument("--keep-zip", action="store_true", help="keep the zip files after unpacking (9 GB and more)")
    command.add_argument("--sample", type=int, metavar="N", help="only N images a class, from the ISIC Archive")


def _download(options: argparse.Namespace) -> int:
    from cadlib import download

    if options.sample is not None and (options.mirror is not None or options.keep_zip):
        raise UsageError("Expected --sample alone: it takes single images from the ISIC Archive, no mirror and no zip.")
    if options.sample is not None and options.sample < 1:
        raise UsageError(f"Expected --sample of at least 1 image a class but came {options.sample}.")
    if options.mirror is not None:
        try:
            download.check_address(options.mirror)
        except CadError as error:
            raise UsageError(str(error)) from error
    _make_folder(options.to)
    with _Bars() as bars:
        watch = download.Watch(tqdm.write, bars.progress)
        if options.sample is None:
            download.download_official(options.to, watch, mirror=options.mirror, keep_zip=options.keep_zip)
        else:
            download.download_sample(options.to, options.sample, watch)
    return 0


class _Bars:
    """One progress bar after the other, each for one thing that is counted."""

    def __init__(self, *, images: bool = False) -> None:
        self._images = images  # all that is counted is images, not bytes
        self._bar = tqdm(disable=True)
        self._what = ""

    def __enter__(self) -> "_Bars":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def progress(self, what: str, done: int, total: int) -> None:
        if what != self._what:
            self._bar.close()
            images = self._images or what == "images"
            sized = {"unit": "image"} if images else {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
            self._bar = tqdm(desc=what, total=total, initial=done, leave=False, **sized)
            self._what = what
        self._bar.update(done - self._bar.n)


# what commands share


def _add_settings(command: argparse.ArgumentParser, defaults: "TrainConfig", without: Sequence[str] = ()) -> None:
    """Add a flag for each field of TrainConfig; those `without` a flag keep their default."""
    for setting in fields(defaults):
        flag, default = f"--{setting.name.replace('_', '-')}", getattr(defaults, setting.name)
        text = f"{setting.metadata['help']} (default: {'none' if default == '' else default})"
        if setting.name in without:
            command.set_defaults(**{setting.name: default})
        elif isinstance(default, bool):
            command.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
        else:
            command.add_argument(flag, type=type(default), default=default, help=text)


def _settings(options: argparse.Namespace) -> "TrainConfig":
    """Return the settings that the flags give; the folder of images has to be there."""
    from cadlib.train_config import TrainConfig

    try:
        config = TrainConfig(**{setting.name: getattr(options, setting.name) for setting in fields(TrainConfig)})
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not options.data.is_dir():
        raise UsageError(f"Expected a folder of images with their CSV files but there is no folder {options.data}.")
    return config


@contextmanager
def _training_packages() -> Iterator[None]:
    """Say which file of requirements holds a package that an import inside does not find."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"Training needs {error.name}; run `pip install -r requirements-train.txt`.") from error


def _check_model(name: str) -> ModelRecord:
    try:
        return read_record(find_model(name))
    except ModelInvalid as error:
        raise UsageError(str(error)) from error


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CadError(f"The pictures could not be written to {file}: {error}.") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"Expected a folder that can be written, {folder}, but: {error.strerror}.") from error


if __name__ == "__main__":
    sys.exit(main())
