"""Does what age, sex and site say help beside the picture? Several ways to learn it, compared on validation images.

    python -m cadlib evaluate --model isic2019 --data DIR --split validation --output OUT
    python benchmarks/metadata.py --data DIR --predictions OUT/predictions.csv --split models/isic2019/split.csv

Evidence from validation images comes from fits without the lesion it is for; that from training images from the
metadata alone, times a damping of 0 to 1 chosen on validation images without the lesion. Prints Markdown tables and, as
its last line, one JSON object: whether each way helps in every archive by `cadlib.model.metadata.trial.helps`.
`--write FOLDER` puts the trial, as packing makes it, into the model.json and the card of a model folder.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from cadlib.data.dataset import open_dataset
from cadlib.data.splits import read_split, select
from cadlib.evaluation.evaluate import AGE_BANDS
from cadlib.images.patient import design_of
from cadlib.metrics import classification
from cadlib.metrics.operating_point import DEFAULT_OPERATING_POINT, choose_thresholds
from cadlib.model import card, metrics_file
from cadlib.model.calibration import SMALL_PX
from cadlib.model.golden import golden_json
from cadlib.model.metadata import add_evidence
from cadlib.model.metadata.fitting import (
    FOLDS,
    LEAST_PROBABILITY,
    PARTITIONS,
    archive_shifts,
    dropped,
    fit_additive,
    fit_evidence,
    folds,
    loss_and_slope,
    out_of_fold,
)
from cadlib.model.metadata.trial import (
    FIGURES,
    Difference,
    archives_of,
    compare,
    helps,
    parts_of,
    run_trial,
)
from cadlib.model.model import Model
from cadlib.model.record import (
    CARD_FILE,
    GOLDEN_FILE,
    write_folder,
)
from cadlib.taxonomy import CODES

Floats = NDArray[np.float64]
Evidence = Callable[[Floats], Floats]
"""From (N, F) facts to (N, 8) logits."""

KEPT_WAY = "validation, additive, within archives"
HIDDEN = 8
NETWORK_PRIOR_SD = 0.5
TRAINING_PRIOR_SD = 0.5
"""Wider than on validation images: five times as many, and no image says the same."""


@dataclass(frozen=True, eq=False)
class Images:
    """A part of the split: (N, F) facts; (N,) labels, archives and lesions."""

    table: pd.DataFrame
    design: Floats
    labels: NDArray[np.int64]
    archives: NDArray[np.str_]
    lesions: NDArray[np.int64]

    @property
    def truth(self) -> Floats:
        """Return the labels as (N, 8) of 0 and 1."""
        return np.eye(len(CODES))[self.labels]


def images_of(table: pd.DataFrame) -> Images:
    """Return the images of a dataset's table as arrays."""
    labels = np.array([CODES.index(code) for code in table["diagnosis"]], np.int64)
    return Images(
        table, design_of(table), labels, archives_of(table), pd.factorize(table["lesion_group"])[0]
    )


def class_shares(images: Images, *, within: bool) -> Floats:
    """Return the log of the share of each class, (N, 8), in the image's archive or in all; -inf where it has none."""
    groups = images.archives if within else np.zeros_like(images.archives)
    shares = pd.DataFrame(images.truth).groupby(groups).transform("mean").to_numpy(np.float64)
    with np.errstate(divide="ignore"):
        return np.log(shares)


def counted(design: Floats, offsets: Floats, truth: Floats) -> tuple[Floats, Floats, Floats]:
    """Join the images of the same facts and offsets: the same fit from twenty times fewer rows."""
    rows, place = np.unique(np.concatenate([design, offsets], axis=1), axis=0, return_inverse=True)
    counts = np.zeros((len(rows), len(CODES)))
    np.add.at(counts, place.ravel(), truth)
    return rows[:, : design.shape[1]], rows[:, design.shape[1] :], counts


def additive(design: Floats, offsets: Floats, counts: Floats) -> Evidence:
    """Fit one vector a feature on training images."""
    weights = fit_additive(design, offsets, counts, TRAINING_PRIOR_SD)
    return lambda facts: facts @ weights


def cautious(design: Floats, offsets: Floats, counts: Floats) -> Evidence:
    """Fit one vector a feature on validation images, as the product does."""
    weights = fit_additive(design, offsets, counts)
    return lambda facts: facts @ weights


def network(design: Floats, offsets: Floats, counts: Floats) -> Evidence:
    """Fit tanh(facts U) V without biases, which is zero for no facts; inputs are dropped as for the additive one."""
    kept = [(design * columns, counts * share) for columns, share in dropped()]
    rows, seen = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    start = np.tile(offsets, (len(kept), 1))
    cut = design.shape[1] * HIDDEN

    def layers(flat: Floats) -> tuple[Floats, Floats]:
        return flat[:cut].reshape(-1, HIDDEN), flat[cut:].reshape(HIDDEN, -1)

    def objective(flat: Floats) -> tuple[float, Floats]:
        first, second = layers(flat)
        hidden = np.tanh(rows @ first)
        loss, slope = loss_and_slope(start + hidden @ second, seen)
        back = rows.T @ ((slope @ second.T) * (1 - hidden**2))
        gradient = np.concatenate([back.ravel(), (hidden.T @ slope).ravel()])
        return loss + (flat**2).sum() / (
            2 * NETWORK_PRIOR_SD**2
        ), gradient + flat / NETWORK_PRIOR_SD**2

    drawn = np.random.default_rng(0).normal(0, 0.3, cut)
    first_guess = np.concatenate([drawn, np.zeros(HIDDEN * len(CODES))])
    first, second = layers(
        minimize(objective, first_guess, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    )
    return lambda facts: np.tanh(facts @ first) @ second


def from_training(
    fit: Callable[..., Evidence],
    training: Images,
    validation: Images,
    probabilities: Floats,
    *,
    within: bool,
) -> Floats:
    """Return damped evidence for the validation images, learnt from the metadata of the training images."""
    evidence = fit(*counted(training.design, class_shares(training, within=within), training.truth))
    return damped(evidence(validation.design), validation, probabilities)


def damped(evidence: Floats, images: Images, probabilities: Floats) -> Floats:
    """Return the evidence times the damping that suits the images of other lesions, the mean over PARTITIONS draws."""
    found = np.zeros_like(evidence)
    for partition in range(PARTITIONS):
        fold = folds(images.lesions, partition)
        for held in range(FOLDS):
            inside = fold != held
            found[~inside] += (
                damping(evidence[inside], probabilities[inside], images.truth[inside])
                * evidence[~inside]
            )
    return found / PARTITIONS


def damping(evidence: Floats, probabilities: Floats, truth: Floats) -> float:
    """Return the factor of 0 to 1 at which the evidence makes the truth most likely."""
    logits = np.log(np.maximum(probabilities, LEAST_PROBABILITY))
    found = minimize_scalar(
        lambda d: loss_and_slope(logits + d * evidence, truth)[0], bounds=(0, 1), method="bounded"
    )
    return float(found.x)


def held_out(
    images: Images, probabilities: Floats, fit: Callable[..., Evidence], *, shifted: bool
) -> Floats:
    """Return the evidence of a fit on validation images of other lesions; `shifted` is within archives."""
    logits = np.log(np.maximum(probabilities, LEAST_PROBABILITY))
    found = np.zeros_like(probabilities)
    for partition in range(PARTITIONS):
        fold = folds(images.lesions, partition)
        for held in range(FOLDS):
            rows = fold != held
            offsets, truth = logits[rows], images.truth[rows]
            if shifted:
                offsets = offsets + archive_shifts(offsets, truth, images.archives[rows])
            found[~rows] += fit(images.design[rows], offsets, truth)(images.design[~rows])
    return found / PARTITIONS


def other_archives(
    validation: Images, probabilities: Floats, training: Images | None = None
) -> Floats:
    """Return for each archive the evidence learnt in all others: what a clinic that gave no image can expect."""
    found = np.zeros_like(probabilities)
    for archive in np.unique(validation.archives):
        inside = validation.archives != archive
        known = probabilities[inside], validation.labels[inside], validation.archives[inside]
        if training is None:
            found[~inside] = validation.design[~inside] @ fit_evidence(
                validation.design[inside], *known
            )
        else:
            taught = images_of(training.table[training.archives != archive])
            fitted = additive(
                *counted(taught.design, class_shares(taught, within=True), taught.truth)
            )
            evidence = fitted(validation.design)
            share = damping(evidence[inside], probabilities[inside], validation.truth[inside])
            found[~inside] = share * evidence[~inside]
    return found


def ways(
    training: Images, validation: Images, probabilities: Floats
) -> Iterator[tuple[str, Floats]]:
    """Yield each way to learn the evidence, and its (N, 8) for the validation images."""
    on = validation.design, probabilities, validation.labels
    one = np.full_like(validation.archives, "one")
    yield KEPT_WAY, out_of_fold(*on, validation.archives, validation.lesions)
    yield "validation, additive, archives pooled", out_of_fold(*on, one, validation.lesions)
    yield (
        "validation, additive, no shift",
        held_out(validation, probabilities, cautious, shifted=False),
    )
    yield (
        "validation, network, within archives",
        held_out(validation, probabilities, network, shifted=True),
    )
    for name, fit in (("additive", additive), ("network", network)):
        for within, how in ((True, "within archives"), (False, "archives pooled")):
            found = from_training(fit, training, validation, probabilities, within=within)
            yield f"training, {name}, {how}", found
    yield "validation, additive, the other archives", other_archives(validation, probabilities)
    yield (
        "training, additive, the other archives",
        other_archives(validation, probabilities, training),
    )


def cell(name: str, found: Difference) -> str:
    """Return the change of a figure with its interval; in bold where all of it is on one side."""
    if found.low is None or found.before is None or found.after is None:
        return "not defined"
    text = f"{found.after - found.before:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
    return f"**{text}**" if found.verdict(name) else text


def row(*cells: str) -> None:
    """Print a row of a Markdown table."""
    print(f"| {' | '.join(cells)} |")


def head(*cells: str) -> None:
    """Print the head of a Markdown table, after an empty line."""
    print()
    row(*cells)
    row(*("---" for _ in cells))


def print_ages(validation: Images, before: Floats, after: Floats) -> None:
    """Print sensitivity and specificity at the default operating point by age, without and with the facts."""
    truth = classification.malignant_truth(validation.labels)
    scores = [classification.malignant_probability(p) for p in (before, after)]
    image, facts = (
        next(p.threshold for p in choose_thresholds(s, truth) if p.name == DEFAULT_OPERATING_POINT)
        for s in scores
    )
    settings = [(scores[0], image), (scores[1], facts), (scores[1], image)]
    head(
        "age",
        "n",
        "malignant",
        "image",
        "with facts, own threshold",
        "with facts, the image's threshold",
    )
    bands = pd.cut(validation.table["age_approx"].astype("float64"), AGE_BANDS, right=False)
    for name, inside in [
        ("all", np.ones(len(truth), bool)),
        *((str(b), (bands == b).to_numpy()) for b in bands.cat.categories),
    ]:
        pairs = [
            classification.sensitivity_specificity(s[inside], truth[inside], threshold)
            for s, threshold in settings
        ]
        row(
            name,
            f"{inside.sum():,}",
            f"{truth[inside].sum():,}",
            *(f"{a:.3f}, {b:.3f}" for a, b in pairs),
        )


def write(folder: Path, validation: Images, probabilities: Floats) -> None:
    """Run the trial and write it into the record, the golden answers and the card of a model folder."""
    trial = run_trial(
        validation.table, probabilities, validation.labels, validation.lesions, SMALL_PX
    )
    model = Model.load(folder)
    record = replace(model.record, metadata=trial)
    text = card.render(record, metrics_file.measured(folder, model.record))
    write_folder(
        folder, record, {CARD_FILE: text, GOLDEN_FILE: golden_json(model.with_record(record))}
    )


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of ISIC 2019 layout")
    parser.add_argument(
        "--predictions", type=Path, required=True, help="predictions.csv of the validation split"
    )
    parser.add_argument("--split", type=Path, required=True, help="split.csv of the model")
    parser.add_argument(
        "--write", type=Path, metavar="FOLDER", help="folder of the model that made the predictions"
    )
    options = parser.parse_args()
    table, split = open_dataset(options.data, verify=False).table, read_split(options.split)
    training = images_of(select(table, split[split["split"] == "train"]))
    validation = images_of(select(table, split[split["split"] == "validation"]))
    predicted = pd.read_csv(options.predictions).set_index("image")
    probabilities = predicted.loc[validation.table["image"], list(CODES)].to_numpy(np.float64)

    if options.write:
        write(options.write, validation, probabilities)
    parts = parts_of(validation.table, SMALL_PX)
    archives = [part for part in parts if part.startswith("archive ")]
    shown = [
        (part, figure)
        for part in archives
        for figure in ("balanced_accuracy", "malignant_auc", "nll")
    ]
    head("way", "helps", *(f"{part.removeprefix('archive ')}: {figure}" for part, figure in shown))
    verdicts = {}
    for name, evidence in ways(training, validation, probabilities):
        after = add_evidence(probabilities, evidence)
        found = compare(validation.labels, probabilities, after, validation.lesions, parts)
        verdicts[name] = helps(found)
        row(
            name,
            "yes" if verdicts[name] else "no",
            *(cell(figure, found[part][figure]) for part, figure in shown),
        )
        if name == KEPT_WAY:
            kept, kept_after = found, after
    head("images", "n", *FIGURES)
    for part, figures in kept.items():
        row(part, f"{parts[part].sum():,}", *(cell(name, figures[name]) for name in FIGURES))
    print_ages(validation, probabilities, kept_after)
    print(f"\n{json.dumps(verdicts)}")


if __name__ == "__main__":
    main()
