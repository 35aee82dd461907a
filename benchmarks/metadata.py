r"""Compares ways to learn from age, sex and site beside the image, on validation images.

    python -m cadlib evaluate --model isic2019 --data DIR --split validation --output OUT
    python benchmarks/metadata.py --data DIR --predictions OUT/predictions.csv \\
        --split models/isic2019/split.csv

Evidence from validation images comes from fits without the lesion that it is for. Evidence from
training images comes from the metadata alone, times a damping of 0 to 1 that is chosen on
validation images without the lesion. It prints Markdown tables and, as its last line, one JSON
object: whether each way is accepted by the rule of `cadlib.model.metadata.acceptance`.
`--rule` only prints the verdict of the rule on the way of the product. `--write FOLDER`
writes the trial, as packing does, into the model.json and the card of a model.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd
from msgspec import structs
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from cadlib.data.age_bands import age_bands
from cadlib.data.dataset import open_dataset
from cadlib.data.splits import read_split, select
from cadlib.images.patient import design_of
from cadlib.metrics import classification
from cadlib.model import card, metrics_file
from cadlib.model.calibration import SMALL_PX
from cadlib.model.golden import golden_json
from cadlib.model.metadata import MetadataTrial, add_evidence
from cadlib.model.metadata.acceptance import judge
from cadlib.model.metadata.changes import (
    ARCHIVE,
    METRICS,
    Difference,
    archives_of,
    compare,
    compare_age_bands,
    default_threshold,
    parts_of,
)
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
from cadlib.model.metadata.trial import run_trial
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

PRODUCT_WAY = "validation, additive, within archives"
HIDDEN = 8
NETWORK_PRIOR_SD = 0.5
TRAINING_PRIOR_SD = 0.5
"""Wider than on validation images: there are five times as many, and the image adds nothing."""


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
    lesions, _ = pd.factorize(table["lesion_group"])
    return Images(table, design_of(table), labels, archives_of(table), lesions)


def class_shares(images: Images, *, within: bool) -> Floats:
    """Return the log of the share of each class, (N, 8), in the image's archive or in all.

    It is -inf for a class without an image.
    """
    groups = images.archives if within else np.zeros_like(images.archives)
    by_group = pd.DataFrame(images.truth).groupby(groups)
    shares = by_group.transform("mean").to_numpy(np.float64)
    with np.errstate(divide="ignore"):
        return np.log(shares)


def counted(design: Floats, offsets: Floats, truth: Floats) -> tuple[Floats, Floats, Floats]:
    """Join the images of the same facts and offsets: the same fit from twenty times fewer rows."""
    joined = np.concatenate([design, offsets], axis=1)
    rows, place = np.unique(joined, axis=0, return_inverse=True)
    counts = np.zeros((len(rows), len(CODES)))
    np.add.at(counts, place.ravel(), truth)
    n_facts = design.shape[1]
    return rows[:, :n_facts], rows[:, n_facts:], counts


def additive(design: Floats, offsets: Floats, counts: Floats) -> Evidence:
    """Fit one vector a feature on training images."""
    weights = fit_additive(design, offsets, counts, TRAINING_PRIOR_SD)
    return lambda facts: facts @ weights


def cautious(design: Floats, offsets: Floats, counts: Floats) -> Evidence:
    """Fit one vector a feature on validation images, as the product does."""
    weights = fit_additive(design, offsets, counts)
    return lambda facts: facts @ weights


@dataclass(frozen=True, eq=False)
class Layers:
    """The network tanh(facts U) V without biases, which is zero for no facts."""

    first: Floats
    second: Floats

    @classmethod
    def of(cls, flat: Floats, n_facts: int) -> "Layers":
        """Read U, (F, HIDDEN), and V, (HIDDEN, 8), from one vector."""
        cut = n_facts * HIDDEN
        return cls(flat[:cut].reshape(-1, HIDDEN), flat[cut:].reshape(HIDDEN, -1))

    def evidence(self, facts: Floats) -> Floats:
        """Return (N, 8) logits for (N, F) facts."""
        return np.tanh(facts @ self.first) @ self.second

    def loss_and_gradient(
        self, facts: Floats, offsets: Floats, counts: Floats
    ) -> tuple[float, Floats]:
        """Return the loss on these rows and its gradient as one vector, without the prior."""
        hidden = np.tanh(facts @ self.first)
        loss, slope = loss_and_slope(offsets + hidden @ self.second, counts)
        # The derivative of tanh is 1 - tanh².
        hidden_slope = (slope @ self.second.T) * (1 - hidden**2)
        first_gradient = facts.T @ hidden_slope
        second_gradient = hidden.T @ slope
        return loss, np.concatenate([first_gradient.ravel(), second_gradient.ravel()])


def with_dropped_inputs(
    design: Floats,
    offsets: Floats,
    counts: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Return facts, offsets and counts of the rows, once for each set of inputs that is dropped."""
    designs = []
    weighted_counts = []
    for columns, share in dropped():
        designs.append(design * columns)
        weighted_counts.append(counts * share)
    all_designs = np.concatenate(designs)
    all_offsets = np.tile(offsets, (len(designs), 1))
    all_counts = np.concatenate(weighted_counts)
    return all_designs, all_offsets, all_counts


def network(design: Floats, offsets: Floats, counts: Floats) -> Evidence:
    """Fit a small network; inputs are dropped as for the additive one."""
    rows, row_offsets, row_counts = with_dropped_inputs(design, offsets, counts)
    n_facts = design.shape[1]
    variance = NETWORK_PRIOR_SD**2

    def objective(flat: Floats) -> tuple[float, Floats]:
        layers = Layers.of(flat, n_facts)
        loss, gradient = layers.loss_and_gradient(rows, row_offsets, row_counts)
        # The prior of the weights is normal, with a mean of zero.
        prior_loss = (flat**2).sum() / (2 * variance)
        return loss + prior_loss, gradient + flat / variance

    rng = np.random.default_rng(0)
    first = rng.normal(0, 0.3, n_facts * HIDDEN)
    start = np.concatenate([first, np.zeros(HIDDEN * len(CODES))])
    fitted = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return Layers.of(fitted.x, n_facts).evidence


def from_training(
    fit: Callable[..., Evidence],
    training: Images,
    validation: Images,
    probabilities: Floats,
    *,
    within: bool,
) -> Floats:
    """Return damped evidence for the validation images, from the metadata of training images."""
    shares = class_shares(training, within=within)
    evidence = fit(*counted(training.design, shares, training.truth))
    return damped(evidence(validation.design), validation, probabilities)


def damped(evidence: Floats, images: Images, probabilities: Floats) -> Floats:
    """Return the evidence times the damping that suits the images of other lesions.

    It is the mean over PARTITIONS draws.
    """
    total = np.zeros_like(evidence)
    for partition in range(PARTITIONS):
        fold = folds(images.lesions, partition)
        for held in range(FOLDS):
            inside = fold != held
            factor = damping(evidence[inside], probabilities[inside], images.truth[inside])
            total[~inside] += factor * evidence[~inside]
    return total / PARTITIONS


def damping(evidence: Floats, probabilities: Floats, truth: Floats) -> float:
    """Return the factor of 0 to 1 at which the evidence makes the truth most likely."""
    logits = np.log(np.maximum(probabilities, LEAST_PROBABILITY))

    def loss(factor: float) -> float:
        value, _ = loss_and_slope(logits + factor * evidence, truth)
        return value

    best = minimize_scalar(loss, bounds=(0, 1), method="bounded")
    return float(best.x)


def held_out(
    images: Images,
    probabilities: Floats,
    fit: Callable[..., Evidence],
    *,
    shifted: bool,
) -> Floats:
    """Return the evidence of a fit on validation images of other lesions.

    `shifted` fits within archives.
    """
    possible = np.maximum(probabilities, LEAST_PROBABILITY)
    logits = np.log(possible)
    total = np.zeros_like(probabilities)
    for partition in range(PARTITIONS):
        fold = folds(images.lesions, partition)
        for held in range(FOLDS):
            rows = fold != held
            offsets = logits[rows]
            truth = images.truth[rows]
            if shifted:
                archives = images.archives[rows]
                offsets = offsets + archive_shifts(offsets, truth, archives)
            evidence = fit(images.design[rows], offsets, truth)
            left_out = images.design[~rows]
            total[~rows] += evidence(left_out)
    return total / PARTITIONS


def other_archives(validation: Images, probabilities: Floats) -> Floats:
    """Return for each archive the evidence from the validation images of all others.

    A clinic that gave no image can expect this.
    """
    evidence = np.zeros_like(probabilities)
    for archive in np.unique(validation.archives):
        inside = validation.archives != archive
        weights = fit_evidence(
            validation.design[inside],
            probabilities[inside],
            validation.labels[inside],
            validation.archives[inside],
        )
        evidence[~inside] = validation.design[~inside] @ weights
    return evidence


def other_archives_of_training(
    training: Images, validation: Images, probabilities: Floats
) -> Floats:
    """Return for each archive the damped evidence from the training images of all others."""
    total = np.zeros_like(probabilities)
    for archive in np.unique(validation.archives):
        inside = validation.archives != archive
        others = images_of(training.table[training.archives != archive])
        shares = class_shares(others, within=True)
        fitted = additive(*counted(others.design, shares, others.truth))
        evidence = fitted(validation.design)
        factor = damping(evidence[inside], probabilities[inside], validation.truth[inside])
        total[~inside] = factor * evidence[~inside]
    return total


def ways(
    training: Images, validation: Images, probabilities: Floats
) -> Iterator[tuple[str, Floats]]:
    """Yield each way to learn the evidence, and its (N, 8) for the validation images."""
    yield from validation_ways(validation, probabilities)
    for name, fit in (("additive", additive), ("network", network)):
        for within, how in ((True, "within archives"), (False, "archives pooled")):
            evidence = from_training(fit, training, validation, probabilities, within=within)
            yield f"training, {name}, {how}", evidence
    yield "validation, additive, the other archives", other_archives(validation, probabilities)
    evidence = other_archives_of_training(training, validation, probabilities)
    yield "training, additive, the other archives", evidence


def validation_ways(validation: Images, probabilities: Floats) -> Iterator[tuple[str, Floats]]:
    """Yield the ways that learn from validation images of other lesions."""
    images = (validation.design, probabilities, validation.labels)
    yield PRODUCT_WAY, out_of_fold(*images, validation.archives, validation.lesions)
    pooled = np.full_like(validation.archives, "one")
    evidence = out_of_fold(*images, pooled, validation.lesions)
    yield "validation, additive, archives pooled", evidence
    evidence = held_out(validation, probabilities, cautious, shifted=False)
    yield "validation, additive, no shift", evidence
    evidence = held_out(validation, probabilities, network, shifted=True)
    yield "validation, network, within archives", evidence


def cell(name: str, difference: Difference) -> str:
    """Return the change of a metric with its interval; bold where the interval excludes 0."""
    if difference.low is None or difference.before is None or difference.after is None:
        return "not defined"
    change = difference.after - difference.before
    text = f"{change:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
    return f"**{text}**" if difference.verdict(name) else text


def row(*cells: str) -> None:
    """Print a row of a Markdown table."""
    print(f"| {' | '.join(cells)} |")


def head(*cells: str) -> None:
    """Print the head of a Markdown table, after an empty line."""
    print()
    row(*cells)
    row(*("---" for _ in cells))


def print_ages(
    validation: Images,
    before: Floats,
    after: Floats,
) -> None:
    """Print sensitivity and specificity at the default operating point by age.

    They are without and with the facts.
    """
    truth = classification.malignant_truth(validation.labels)
    image_scores = classification.malignant_probability(before)
    facts_scores = classification.malignant_probability(after)
    image_threshold = default_threshold(image_scores, truth)
    facts_threshold = default_threshold(facts_scores, truth)
    columns = {
        "image": (image_scores, image_threshold),
        "with facts, own threshold": (facts_scores, facts_threshold),
        "with facts, the image's threshold": (facts_scores, image_threshold),
    }
    head("age", "n", "malignant", *columns)
    for name, inside in rows_by_age(validation):
        texts = []
        for scores, threshold in columns.values():
            sensitivity, specificity = classification.sensitivity_specificity(
                scores[inside],
                truth[inside],
                threshold,
            )
            texts.append(f"{sensitivity:.3f}, {specificity:.3f}")
        n = inside.sum()
        n_malignant = truth[inside].sum()
        row(name, f"{n:,}", f"{n_malignant:,}", *texts)


def rows_by_age(images: Images) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the name and the rows of all images, and of each age band."""
    n = len(images.labels)
    yield "all", np.ones(n, bool)
    ages = images.table["age_approx"]
    bands = age_bands(ages)
    names = bands.dropna().unique()
    for name in sorted(names):
        in_band = bands == name
        rows = in_band.to_numpy(bool, na_value=False)
        yield name, rows


def trial_of(validation: Images, probabilities: Floats) -> MetadataTrial | None:
    """Run the trial of the product."""
    return run_trial(
        validation.table,
        probabilities,
        validation.labels,
        validation.lesions,
        SMALL_PX,
    )


def print_rule(validation: Images, probabilities: Floats) -> None:
    """Print the verdict of the rule on the way of the product, and the changes by age."""
    trial = trial_of(validation, probabilities)
    if trial is None:
        print("No image has age, sex or site.")
        return
    print(trial.result)
    head("age", "malignant", "sensitivity without facts", "with facts", "change")
    for band, change in trial.age_bands.items():
        row(band, f"{change.n_malignant:,}", str(change.before), str(change.after), change.text)
    print_parts(trial.differences, parts_of(validation.table, SMALL_PX))


def write(folder: Path, validation: Images, probabilities: Floats) -> None:
    """Run the trial and write it into the record, the golden answers and the card of a model."""
    trial = trial_of(validation, probabilities)
    model = Model.load(folder)
    record = structs.replace(model.record, metadata=trial)
    metrics = metrics_file.measured(folder, model.record)
    updated = model.with_record(record)
    files = {
        CARD_FILE: card.render(record, metrics),
        GOLDEN_FILE: golden_json(updated),
    }
    write_folder(folder, record, files)


@dataclass(frozen=True, eq=False)
class Effect:
    """The changes by a way, by part and metric, its (N, 8) probabilities, and the verdict."""

    changes: Mapping[str, Mapping[str, Difference]]
    probabilities: Floats
    accepted: bool


def effect_of(evidence: Floats, validation: Images, before: Floats) -> Effect:
    """Return how (N, 8) evidence changes the (N, 8) probabilities of the validation images."""
    after = add_evidence(before, evidence)
    labels = validation.labels
    lesions = validation.lesions
    parts = parts_of(validation.table, SMALL_PX)
    changes = compare(labels, before, after, lesions, parts)
    by_age = compare_age_bands(validation.table, labels, before, after, lesions)
    verdict = judge(changes, by_age)
    return Effect(changes, after, verdict.accepted)


def print_ways(training: Images, validation: Images, probabilities: Floats) -> dict[str, bool]:
    """Print how each way changes the metrics; return whether the rule accepts each."""
    parts = parts_of(validation.table, SMALL_PX)
    columns = shown_columns(parts)
    titles = []
    for part, metric in columns:
        archive = part.removeprefix(ARCHIVE)
        titles.append(f"{archive}: {metric}")
    head("way", "accepted", *titles)
    effects = {}
    accepted = {}
    for name, evidence in ways(training, validation, probabilities):
        effect = effect_of(evidence, validation, probabilities)
        effects[name] = effect
        accepted[name] = effect.accepted
        print_way(name, effect, columns)
    product = effects[PRODUCT_WAY]
    print_parts(product.changes, parts)
    print_ages(validation, probabilities, product.probabilities)
    return accepted


def print_way(name: str, effect: Effect, columns: Iterable[tuple[str, str]]) -> None:
    """Print the row of a way: its verdict, and the change in each column, a part and a metric."""
    accepted = "yes" if effect.accepted else "no"
    texts = []
    for part, metric in columns:
        metrics = effect.changes[part]
        change = metrics[metric]
        text = cell(metric, change)
        texts.append(text)
    row(name, accepted, *texts)


def shown_columns(parts: Iterable[str]) -> list[tuple[str, str]]:
    """Return the archives with the metrics that are compared in them."""
    metrics = ("balanced_accuracy", "malignant_auc", "nll")
    columns = []
    for part in parts:
        if not part.startswith(ARCHIVE):
            continue
        for metric in metrics:
            column = (part, metric)
            columns.append(column)
    return columns


def print_parts(
    changes: Mapping[str, Mapping[str, Difference]],
    parts: Mapping[str, NDArray[np.bool_]],
) -> None:
    """Print how the way of the product changes every metric, in each part of the images."""
    head("images", "n", *METRICS)
    for part, metrics in changes.items():
        texts = [cell(name, metrics[name]) for name in METRICS]
        n = parts[part].sum()
        row(part, f"{n:,}", *texts)


def parsed_options() -> argparse.Namespace:
    """Read the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder of ISIC 2019 layout",
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        required=True,
        help="predictions.csv of the validation split",
    )
    parser.add_argument(
        "--split",
        type=Path,
        required=True,
        help="split.csv of the model",
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FOLDER",
        help="folder of the model that made the predictions",
    )
    parser.add_argument(
        "--rule",
        action="store_true",
        help="only print the verdict on the way of the product",
    )
    return parser.parse_args()


def read_parts(data: Path, split_file: Path) -> tuple[Images, Images]:
    """Return the training images and the validation images of a split of a data set."""
    table = open_dataset(data, verify=False).table
    split = read_split(split_file)
    part = split["split"]
    in_training = split[part == "train"]
    in_validation = split[part == "validation"]
    training = select(table, in_training)
    validation = select(table, in_validation)
    return images_of(training), images_of(validation)


def read_predictions(file: Path, images: Images) -> Floats:
    """Return the (N, 8) probabilities of these images from a predictions.csv."""
    predictions = pd.read_csv(file)
    by_image = predictions.set_index("image")
    names = images.table["image"]
    columns = list(CODES)
    probabilities = by_image.loc[names, columns]
    return probabilities.to_numpy(np.float64)


def main() -> None:
    """Compare and print."""
    options = parsed_options()
    training, validation = read_parts(options.data, options.split)
    probabilities = read_predictions(options.predictions, validation)
    if options.rule:
        print_rule(validation, probabilities)
        return
    if options.write:
        write(options.write, validation, probabilities)
    accepted = print_ways(training, validation, probabilities)
    print(f"\n{json.dumps(accepted)}")


if __name__ == "__main__":
    main()
