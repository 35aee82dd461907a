"""How well wrong labels are found: some are planted in real data, and each way to rank is asked to find them.

    python benchmarks/suspects.py --data DIR [--model NAME] [--draws 10] [--share 0.03] [--part validation] …

`--data` is a folder of ISIC 2019 layout. In each part of the model's own split a share of the labels is flipped, drawn
anew `--draws` times: to any other diagnosis (random), or to the one that the model most often confuses it with
(confused), which is harder. Validation and test labels are held against the model's calibrated probabilities, training
labels against `cadlib.label_review.doubtful_labels.without_own_lesion`, fitted on the planted labels. Prints
Markdown tables: of the
images ranked highest, as many as were planted, the share that was (precision), the average precision and the AUROC of
the planted against all others; then what each of cleanlab's filters calls an error, with the share planted of it and
the share of the planted that it holds. Real errors of the data set count as false alarms, so precision is at least
what is printed. The peer is the plain probability of the given label, which is cleanlab's self_confidence.

Training labels are planted after the network has learnt the right ones. Real errors it has learnt by heart, so the
figures of the training part are more than can be expected there. How much more, `--by-heart` shows, of some training
images: a network of one hidden layer is trained on the planted labels until it gives nearly all of them, and its hidden
layer stands for the features. The last table tells how often the model, and what labels are held against, give the
label that stands in the data set.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator
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
LEARNT, HIDDEN, EPOCHS = 4000, 256, 150
"""Of the network that learns labels by heart: on how many images, in how many units of its hidden layer, how long."""
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def confused_with(labels: Labels, probabilities: Floats) -> Labels:
    """Return, for each of the eight diagnoses, the wrong one that the model most often gives it, (8,)."""
    counts = np.zeros((len(CODES), len(CODES)))
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    np.fill_diagonal(counts, -1)
    return counts.argmax(axis=1)


def planted(
    labels: Labels, kind: str, confused: Labels, share: float, seed: int
) -> tuple[Labels, NDArray[np.bool_]]:
    """Return labels of which a share is flipped, and which are."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(labels), bool)
    wrong[rng.choice(len(labels), round(share * len(labels)), replace=False)] = True
    other = (
        confused[labels]
        if kind == "confused"
        else (labels + rng.integers(1, len(CODES), len(labels))) % len(CODES)
    )
    return np.where(wrong, other, labels), wrong


def figures(scores: Floats, wrong: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return precision at the number planted, average precision and AUROC."""
    first = np.argsort(-scores, kind="stable")[: wrong.sum()]
    return wrong[first].mean(), average_precision_score(wrong, scores), roc_auc_score(wrong, scores)


def answers(model: Model, seen: SplitFeatures, part: str, labels: Labels) -> Floats:
    """Return the probabilities that the product holds these labels of a part against."""
    if part == "train":
        return without_own_lesion(seen.features, labels, seen.table["lesion_group"].to_numpy())
    return model.calibrated(seen.logits, short_sides(seen.table))


def by_heart(
    features: NDArray[np.float32], labels: Labels
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return (N, HIDDEN) features of a network that has learnt these labels, and which of them it gives, (N,)."""
    network = MLPClassifier(
        (HIDDEN,), alpha=0, max_iter=EPOCHS, tol=0, n_iter_no_change=EPOCHS, random_state=0
    )
    scaled = StandardScaler().fit_transform(features)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        network.fit(scaled, labels)
    hidden = np.maximum(scaled @ network.coefs_[0] + network.intercepts_[0], 0)
    return hidden.astype(np.float32), network.predict(scaled) == labels


def print_by_heart(train: SplitFeatures, confused: Labels, share: float) -> None:
    """Plant errors before a network learns them, and print how they are found in its features."""
    some = np.random.default_rng(0).choice(
        len(train.labels), min(LEARNT, len(train.labels)), replace=False
    )
    features, lesions = train.features[some], train.table["lesion_group"].to_numpy()[some]
    head(
        f"train, {len(some):,} images",
        "planted labels learnt",
        "precision",
        "average precision",
        "AUROC",
    )
    for kind in KINDS:
        labels, wrong = planted(train.labels[some], kind, confused, share, 0)
        hidden, given = by_heart(features, labels)
        for name, seen, learnt in (
            ("not learnt", features, 0.0),
            ("learnt by heart", hidden, given[wrong].mean()),
        ):
            found = figures(doubt(labels, without_own_lesion(seen, labels, lesions)).scores, wrong)
            row(f"{kind}, {name}", f"{learnt:.3f}", *(f"{value:.3f}" for value in found))


def row(*cells: object) -> None:
    """Print a row of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def head(*cells: str) -> None:
    """Print the head of a Markdown table, after an empty line."""
    print()
    row(*cells)
    row(*("---" for _ in cells))


def cells(values: list[tuple[float, ...]]) -> Iterator[str]:
    """Return the mean and the standard deviation over the draws of each figure."""
    for mean, deviation in zip(np.mean(values, axis=0), np.std(values, axis=0), strict=True):
        yield f"{mean:.3f} ± {deviation:.3f}"


def compare(
    model: Model, seen: SplitFeatures, part: str, confused: Labels, options: argparse.Namespace
) -> None:
    """Plant errors in a part, and print how each way finds them."""
    draws = range(options.draws)
    for kind in KINDS:
        drawn = [planted(seen.labels, kind, confused, options.share, seed) for seed in draws]
        said = [answers(model, seen, part, labels) for labels, _ in drawn]
        trials = [
            (labels, wrong, probabilities)
            for (labels, wrong), probabilities in zip(drawn, said, strict=True)
        ]
        name = f"{part}, {kind}: {trials[0][1].sum():,} planted in {len(seen.labels):,}"
        head(name, "precision", "average precision", "AUROC")
        for m, a in WAYS:
            found = [
                figures(1 - get_label_quality_scores(y, p, method=m, adjust_pred_probs=a), w)
                for y, w, p in trials
            ]
            row(f"{m}{', adjusted' if a else ''}", *cells(found))
        head(
            f"{part}, {kind}: filter",
            "called errors",
            "share of them planted",
            "share of the planted",
        )
        for one in FILTERS:
            called = [find_label_issues(y, p, filter_by=one, n_jobs=1) for y, _, p in trials]
            shares = [
                (c.mean(), w[c].mean(), c[w].mean())
                for c, (_, w, _) in zip(called, trials, strict=True)
            ]
            row(one, *cells(shares))


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of ISIC 2019 layout")
    parser.add_argument(
        "--model", default="isic2019", help="name under models/, or a path (default: isic2019)"
    )
    parser.add_argument(
        "--draws", type=int, default=10, help="how often errors are planted anew (default: 10)"
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
    options = parser.parse_args()
    model, folder = Model.load(options.model), find_model(options.model)
    with ProgressBars() as progress:
        split = split_features(model, folder, open_dataset(options.data, verify=False), progress)
    validation = split.of("validation")
    confused = confused_with(
        validation.labels, answers(model, validation, "validation", validation.labels)
    )
    print(
        "confused:",
        ", ".join(f"{code} → {CODES[other]}" for code, other in zip(CODES, confused, strict=True)),
    )
    for part in options.part or PARTS:
        compare(model, split.of(part), part, confused, options)
    if options.by_heart:
        print_by_heart(split.of("train"), confused, options.share)
    head(
        "labels as they are", "n", "the model gives it", "the classifier gives it", "called errors"
    )
    for part in options.part or PARTS:
        seen = split.of(part)
        said = answers(model, seen, part, seen.labels)
        shares = [(p.argmax(axis=1) == seen.labels).mean() for p in (seen.logits, said)]
        row(
            part,
            f"{len(said):,}",
            *(f"{s:.3f}" for s in shares),
            f"{doubt(seen.labels, said).doubted.sum():,}",
        )


if __name__ == "__main__":
    main()
