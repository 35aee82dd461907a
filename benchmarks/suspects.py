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
Features = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Planted:
    """Labels with planted errors, (N,), and which of them are planted."""

    labels: Labels
    wrong: NDArray[np.bool_]


def confused_with(labels: Labels, probabilities: Floats) -> Labels:
    """Return, for each diagnosis, the wrong one that the model most often predicts for it, (8,)."""
    n_codes = len(CODES)
    counts = np.zeros((n_codes, n_codes))
    predicted = probabilities.argmax(axis=1)
    places = (labels, predicted)
    np.add.at(counts, places, 1)
    # The right diagnosis is never the most frequent wrong one.
    np.fill_diagonal(counts, -1)
    return counts.argmax(axis=1)


def plant(
    labels: Labels,
    kind: str,
    confused: Labels,
    share: float,
    seed: int,
) -> Planted:
    """Change a share of the labels."""
    rng = np.random.default_rng(seed)
    n_labels = len(labels)
    n_wrong = round(share * n_labels)
    rows = rng.choice(n_labels, n_wrong, replace=False)
    wrong = np.zeros(n_labels, bool)
    wrong[rows] = True
    if kind == "confused":
        other = confused[labels]
    else:
        n_codes = len(CODES)
        shift = rng.integers(1, n_codes, n_labels)
        other = (labels + shift) % n_codes
    planted = np.where(wrong, other, labels)
    return Planted(planted, wrong)


def ranking_metrics(
    scores: Floats,
    wrong: NDArray[np.bool_],
) -> tuple[float, float, float]:
    """Return precision at the number planted, average precision and AUROC."""
    order = np.argsort(-scores, kind="stable")
    n_wrong = wrong.sum()
    first = order[:n_wrong]
    precision = wrong[first].mean()
    average = average_precision_score(wrong, scores)
    auroc = roc_auc_score(wrong, scores)
    return precision, average, auroc


def probabilities_for(
    model: Model,
    split: SplitFeatures,
    part: str,
    labels: Labels,
) -> Floats:
    """Return the probabilities that the product compares these labels of a part with."""
    if part != "train":
        sides_px = short_sides(split.table)
        return model.calibrated(split.logits, sides_px)
    lesions = split.table["lesion_group"].to_numpy()
    return without_own_lesion(split.features, labels, lesions)


def memorise(features: Features, labels: Labels) -> tuple[Features, NDArray[np.bool_]]:
    """Train a network until it predicts nearly all labels.

    Return its features, (N, HIDDEN), and which labels it predicts, (N,).
    """
    network = MLPClassifier(
        (HIDDEN,),
        alpha=0,
        max_iter=EPOCHS,
        tol=0,
        n_iter_no_change=EPOCHS,
        random_state=0,
    )
    scaler = StandardScaler()
    scaled = scaler.fit_transform(features)
    with warnings.catch_warnings(
        action="ignore",
        category=ConvergenceWarning,
    ):
        network.fit(scaled, labels)
    weights = network.coefs_[0]
    biases = network.intercepts_[0]
    activations = scaled @ weights + biases
    hidden = np.maximum(activations, 0)
    predicted = network.predict(scaled)
    is_predicted = predicted == labels
    return hidden.astype(np.float32), is_predicted


def print_memorised(
    train: SplitFeatures,
    confused: Labels,
    share: float,
) -> None:
    """Plant errors before a network learns them, and print how they are found in its features."""
    n_labels = len(train.labels)
    n_images = min(MEMORISED, n_labels)
    rng = np.random.default_rng(0)
    rows = rng.choice(n_labels, n_images, replace=False)
    features = train.features[rows]
    labels = train.labels[rows]
    lesion_groups = train.table["lesion_group"].to_numpy()
    lesions = lesion_groups[rows]
    titles = (
        "planted labels memorised",
        "precision",
        "average precision",
        "AUROC",
    )
    head(f"train, {n_images:,} images", *titles)
    for kind in KINDS:
        planted = plant(labels, kind, confused, share, 0)
        hidden, predicted = memorise(features, planted.labels)
        of_planted = predicted[planted.wrong]
        memorised_share = float(of_planted.mean())
        print_form(
            f"{kind}, not memorised",
            planted,
            features,
            lesions,
            0.0,
        )
        print_form(
            f"{kind}, memorised",
            planted,
            hidden,
            lesions,
            memorised_share,
        )


def print_form(
    name: str,
    planted: Planted,
    features: Features,
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
    metrics = zip(means, deviations, strict=True)
    for mean, deviation in metrics:
        yield f"{mean:.3f} ± {deviation:.3f}"


@dataclass(frozen=True, eq=False)
class Trial:
    """A draw of planted errors, and the probabilities that its labels are compared with."""

    planted: Planted
    probabilities: Floats


def compare(
    model: Model,
    split: SplitFeatures,
    part: str,
    confused: Labels,
    options: argparse.Namespace,
) -> None:
    """Plant errors in a part, and print how each way finds them."""
    for kind in KINDS:
        trials = []
        for seed in range(options.draws):
            planted = plant(
                split.labels,
                kind,
                confused,
                options.share,
                seed,
            )
            probabilities = probabilities_for(
                model,
                split,
                part,
                planted.labels,
            )
            trial = Trial(planted, probabilities)
            trials.append(trial)
        print_rankings(part, kind, trials)
        print_filters(part, kind, trials)


def print_rankings(part: str, kind: str, trials: list[Trial]) -> None:
    """Print how high each way ranks the planted errors."""
    wrong = trials[0].planted.wrong
    n_wrong = wrong.sum()
    n_labels = len(wrong)
    name = f"{part}, {kind}: {n_wrong:,} planted in {n_labels:,}"
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
            scores = 1 - quality
            of_trial = ranking_metrics(scores, trial.planted.wrong)
            metrics.append(of_trial)
        title = f"{method}, adjusted" if adjusted else method
        row(title, *cells(metrics))


def filter_shares(
    called: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
) -> tuple[float, float, float]:
    """Return the share called errors, that of planted among them, and that of the planted found."""
    planted_share = wrong[called].mean()
    found_share = called[wrong].mean()
    return called.mean(), planted_share, found_share


def print_filters(part: str, kind: str, trials: list[Trial]) -> None:
    """Print what each of cleanlab's filters calls an error."""
    titles = (
        "called errors",
        "share of them planted",
        "share of the planted",
    )
    head(f"{part}, {kind}: filter", *titles)
    for name in FILTERS:
        shares = []
        for trial in trials:
            called = find_label_issues(
                trial.planted.labels,
                trial.probabilities,
                filter_by=name,
                n_jobs=1,
            )
            of_trial = filter_shares(called, trial.planted.wrong)
            shares.append(of_trial)
        row(name, *cells(shares))


def share_predicted(scores: NDArray[np.floating], labels: Labels) -> float:
    """Return the share of labels that have the highest of (N, 8) scores."""
    predicted = scores.argmax(axis=1)
    is_predicted = predicted == labels
    return float(is_predicted.mean())


def print_as_they_are(
    model: Model,
    split: SplitFeatures,
    parts: Sequence[str],
) -> None:
    """Print the shares of the real labels that are predicted, and how many are called errors."""
    titles = (
        "n",
        "predicted by the model",
        "predicted by the classifier",
        "called errors",
    )
    head("labels as they are", *titles)
    for part in parts:
        images = split.of(part)
        labels = images.labels
        probabilities = probabilities_for(model, images, part, labels)
        by_model = share_predicted(images.logits, labels)
        by_classifier = share_predicted(probabilities, labels)
        doubts = doubt(labels, probabilities)
        n_doubted = doubts.doubted.sum()
        row(
            part,
            f"{len(labels):,}",
            f"{by_model:.3f}",
            f"{by_classifier:.3f}",
            f"{n_doubted:,}",
        )


def read_options() -> argparse.Namespace:
    """Read the command line."""
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
        "--model",
        default="isic2019",
        help="name under models/, or a path (default: isic2019)",
    )
    parser.add_argument(
        "--draws",
        type=int,
        default=10,
        help="repetitions with other planted errors (default: 10)",
    )
    parser.add_argument(
        "--share",
        type=float,
        default=0.03,
        help="of the labels that are planted (default: 0.03)",
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
    folder = find_model(options.model)
    dataset = open_dataset(options.data, verify=False)
    with ProgressBars() as progress:
        split = split_features(model, folder, dataset, progress)
    validation = split.of("validation")
    labels = validation.labels
    probabilities = probabilities_for(
        model,
        validation,
        "validation",
        labels,
    )
    confused = confused_with(labels, probabilities)
    pairs = [f"{code} → {CODES[other]}" for code, other in zip(CODES, confused, strict=True)]
    print("confused:", ", ".join(pairs))
    parts = options.part or PARTS
    for part in parts:
        images = split.of(part)
        compare(model, images, part, confused, options)
    if options.by_heart:
        train = split.of("train")
        print_memorised(train, confused, options.share)
    print_as_they_are(model, split, parts)


if __name__ == "__main__":
    main()
