"""Measures how well wrong labels are found: some are planted in real data, and then searched.

    python benchmarks/suspects.py --data DIR [--model NAME] [--draws 10] [--share 0.03]
        [--part validation] …

`--data` is a folder of ISIC 2019 layout. In each part of the model's own split a share of the
labels is changed, drawn `--draws` times: to any other diagnosis (random), or to the one that the
model most often confuses it with (confused), which is harder. Validation and test labels are
compared with the model's calibrated probabilities, training labels with
`cadlib.label_review.doubtful_labels.without_own_lesion`, fitted on the planted labels.

It prints Markdown tables. For the images ranked highest, as many as were planted, they have the
share that was planted (precision), the average precision, and the AUROC of the planted labels
against all others. Then they have the labels that each of cleanlab's filters calls errors, with the
share of them that was planted and the share of the planted that it finds. Real errors of the data
set count as false alarms, so the true precision is at least the printed one. The peer is the plain
probability of the label, which is cleanlab's self_confidence.

Training labels are planted after the network was trained with the right ones. The network has
memorised real errors, so the metrics of the training part are higher than can be expected there.
`--by-heart` measures the difference on some training images: a network of one hidden layer is
trained on the planted labels until it predicts nearly all of them, and its hidden layer replaces
the features. The last table has the shares of labels of the data set that the model predicts, and
the probabilities that labels are compared with.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from cadlib.data.dataset import open_dataset, short_sides
from cadlib.data.splits import SPLITS
from cadlib.evaluation.features import SplitFeatures, split_features
from cadlib.label_review.doubtful_labels import doubt, without_own_lesion
from cadlib.model.model import Model
from cadlib.model.record import find_model
from cadlib.progress import ProgressBars
from cadlib.taxonomy import CODES

WAYS = (
    ("self_confidence", False),
    ("self_confidence", True),
    ("normalized_margin", False),
    ("normalized_margin", True),
    ("confidence_weighted_entropy", False),
)
FILTERS = (
    "confident_learning",
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "predicted_neq_given",
)
PARTS = ("train", "validation")
KINDS = ("random", "confused")
MEMORISED = 4000
"""Images of the network that memorises labels."""
HIDDEN = 256
"""Units of its hidden layer."""
EPOCHS = 150
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Planted:
    """Labels with planted errors, (N,), and which of them are planted."""

    labels: Labels
    wrong: NDArray[np.bool_]


def confused_with(labels: Labels, probabilities: Floats) -> Labels:
    """Return, for each diagnosis, the wrong one that the model most often predicts for it, (8,)."""
    counts = np.zeros((len(CODES), len(CODES)))
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    np.fill_diagonal(counts, -1)
    return counts.argmax(axis=1)


def plant(labels: Labels, kind: str, confused: Labels, share: float, seed: int) -> Planted:
    """Change a share of the labels."""
    rng = np.random.default_rng(seed)
    n_wrong = round(share * len(labels))
    wrong = np.zeros(len(labels), bool)
    wrong[rng.choice(len(labels), n_wrong, replace=False)] = True
    if kind == "confused":
        other = confused[labels]
    else:
        shift = rng.integers(1, len(CODES), len(labels))
        other = (labels + shift) % len(CODES)
    return Planted(np.where(wrong, other, labels), wrong)


def ranking_metrics(scores: Floats, wrong: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return precision at the number planted, average precision and AUROC."""
    order = np.argsort(-scores, kind="stable")
    first = order[: wrong.sum()]
    precision = wrong[first].mean()
    return precision, average_precision_score(wrong, scores), roc_auc_score(wrong, scores)


def probabilities_for(model: Model, split: SplitFeatures, part: str, labels: Labels) -> Floats:
    """Return the probabilities that the product compares these labels of a part with."""
    if part == "train":
        lesions = split.table["lesion_group"].to_numpy()
        return without_own_lesion(split.features, labels, lesions)
    return model.calibrated(split.logits, short_sides(split.table))


def memorise(
    features: NDArray[np.float32], labels: Labels
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Train a network until it predicts nearly all labels.

    Return its features, (N, HIDDEN), and which labels it predicts, (N,).
    """
    network = MLPClassifier(
        (HIDDEN,), alpha=0, max_iter=EPOCHS, tol=0, n_iter_no_change=EPOCHS, random_state=0
    )
    scaled = StandardScaler().fit_transform(features)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        network.fit(scaled, labels)
    activations = scaled @ network.coefs_[0] + network.intercepts_[0]
    hidden = np.maximum(activations, 0)
    return hidden.astype(np.float32), network.predict(scaled) == labels


def print_memorised(train: SplitFeatures, confused: Labels, share: float) -> None:
    """Plant errors before a network learns them, and print how they are found in its features."""
    n_images = min(MEMORISED, len(train.labels))
    rows = np.random.default_rng(0).choice(len(train.labels), n_images, replace=False)
    features = train.features[rows]
    lesions = train.table["lesion_group"].to_numpy()[rows]
    titles = ("planted labels memorised", "precision", "average precision", "AUROC")
    head(f"train, {n_images:,} images", *titles)
    for kind in KINDS:
        planted = plant(train.labels[rows], kind, confused, share, 0)
        hidden, predicted = memorise(features, planted.labels)
        memorised_share = float(predicted[planted.wrong].mean())
        print_form(f"{kind}, not memorised", planted, features, lesions, 0.0)
        print_form(f"{kind}, memorised", planted, hidden, lesions, memorised_share)


def print_form(
    name: str,
    planted: Planted,
    features: NDArray[np.float32],
    lesions: NDArray[np.int64],
    memorised_share: float,
) -> None:
    """Print how the planted errors are found in features of one form."""
    probabilities = without_own_lesion(features, planted.labels, lesions)
    scores = doubt(planted.labels, probabilities).scores
    values = (memorised_share, *ranking_metrics(scores, planted.wrong))
    row(name, *(f"{value:.3f}" for value in values))


def row(*cells: object) -> None:
    """Print a row of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def head(*cells: str) -> None:
    """Print the head of a Markdown table, after an empty line."""
    print()
    row(*cells)
    row(*("---" for _ in cells))


def cells(values: list[tuple[float, ...]]) -> Iterator[str]:
    """Return the mean and the standard deviation over the draws of each metric."""
    means = np.mean(values, axis=0)
    deviations = np.std(values, axis=0)
    for mean, deviation in zip(means, deviations, strict=True):
        yield f"{mean:.3f} ± {deviation:.3f}"


@dataclass(frozen=True, eq=False)
class Trial:
    """A draw of planted errors, and the probabilities that its labels are compared with."""

    planted: Planted
    probabilities: Floats


def compare(
    model: Model, split: SplitFeatures, part: str, confused: Labels, options: argparse.Namespace
) -> None:
    """Plant errors in a part, and print how each way finds them."""
    for kind in KINDS:
        trials = []
        for seed in range(options.draws):
            planted = plant(split.labels, kind, confused, options.share, seed)
            probabilities = probabilities_for(model, split, part, planted.labels)
            trials.append(Trial(planted, probabilities))
        print_rankings(part, kind, trials)
        print_filters(part, kind, trials)


def print_rankings(part: str, kind: str, trials: list[Trial]) -> None:
    """Print how high each way ranks the planted errors."""
    wrong = trials[0].planted.wrong
    name = f"{part}, {kind}: {wrong.sum():,} planted in {len(wrong):,}"
    head(name, "precision", "average precision", "AUROC")
    for method, adjusted in WAYS:
        metrics = []
        for trial in trials:
            quality = get_label_quality_scores(
                trial.planted.labels,
                trial.probabilities,
                method=method,
                adjust_pred_probs=adjusted,
            )
            metrics.append(ranking_metrics(1 - quality, trial.planted.wrong))
        title = f"{method}, adjusted" if adjusted else method
        row(title, *cells(metrics))


def print_filters(part: str, kind: str, trials: list[Trial]) -> None:
    """Print what each of cleanlab's filters calls an error."""
    titles = ("called errors", "share of them planted", "share of the planted")
    head(f"{part}, {kind}: filter", *titles)
    for name in FILTERS:
        shares = []
        for trial in trials:
            wrong = trial.planted.wrong
            called = find_label_issues(
                trial.planted.labels, trial.probabilities, filter_by=name, n_jobs=1
            )
            shares.append((called.mean(), wrong[called].mean(), called[wrong].mean()))
        row(name, *cells(shares))


def print_as_they_are(model: Model, split: SplitFeatures, parts: Sequence[str]) -> None:
    """Print the shares of the real labels that are predicted, and how many are called errors."""
    titles = ("n", "predicted by the model", "predicted by the classifier", "called errors")
    head("labels as they are", *titles)
    for part in parts:
        images = split.of(part)
        probabilities = probabilities_for(model, images, part, images.labels)
        by_model = (images.logits.argmax(axis=1) == images.labels).mean()
        by_classifier = (probabilities.argmax(axis=1) == images.labels).mean()
        n_doubted = doubt(images.labels, probabilities).doubted.sum()
        shares = (f"{by_model:.3f}", f"{by_classifier:.3f}")
        row(part, f"{len(probabilities):,}", *shares, f"{n_doubted:,}")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of ISIC 2019 layout")
    parser.add_argument(
        "--model", default="isic2019", help="name under models/, or a path (default: isic2019)"
    )
    parser.add_argument(
        "--draws", type=int, default=10, help="repetitions with other planted errors (default: 10)"
    )
    parser.add_argument(
        "--share", type=float, default=0.03, help="of the labels that are planted (default: 0.03)"
    )
    parser.add_argument(
        "--part",
        action="append",
        choices=SPLITS,
        help="of the split (default: train and validation)",
    )
    parser.add_argument(
        "--by-heart",
        action="store_true",
        help="train a network on planted labels too: some minutes",
    )
    return parser.parse_args()


def main() -> None:
    """Compare and print."""
    options = read_options()
    model = Model.load(options.model)
    dataset = open_dataset(options.data, verify=False)
    with ProgressBars() as progress:
        split = split_features(model, find_model(options.model), dataset, progress)
    validation = split.of("validation")
    probabilities = probabilities_for(model, validation, "validation", validation.labels)
    confused = confused_with(validation.labels, probabilities)
    pairs = [f"{code} → {CODES[other]}" for code, other in zip(CODES, confused, strict=True)]
    print("confused:", ", ".join(pairs))
    parts = options.part or PARTS
    for part in parts:
        compare(model, split.of(part), part, confused, options)
    if options.by_heart:
        print_memorised(split.of("train"), confused, options.share)
    print_as_they_are(model, split, parts)


if __name__ == "__main__":
    main()
