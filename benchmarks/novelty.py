"""Measures how well unknown images are detected: other kinds of image, and unseen diagnoses.

    python benchmarks/novelty.py --data DIR --runs DIR [--model NAME] [--near CODE …]
        [--into-model]

`--data` is a folder of ISIC 2019 layout. Results that take minutes are saved in `--runs`, and read
from there the next time.

For each method it prints the area under the ROC curve of far images (`far_pictures.py`) against the
validation images of the model, and the share of far images that pass where 95 % of those images do
(FPR), also by kind. The methods on deep features are pytorch-ood's. Then it prints the shares that
the model's own detector calls unknown: of damaged images, and of plain skin in the corners of real
ones.

`--near MEL NV …` leaves each of these diagnoses out of training in turn, and compares its images
with those of the others. The last blocks of EfficientNet-Lite0 are trained on the output of
ImageNet's first five for images of 112 px, augmented by mirroring alone. It takes about four
minutes a diagnosis on one core.

`--into-model` writes the metrics into metrics.json and the card. The last line is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
import numpy as np
import torch
from far_pictures import FarPicture, far_pictures
from numpy.typing import NDArray
from PIL import Image
from pytorch_ood.detector import KNN, RMD, EnergyBased, Mahalanobis, MaxSoftmax, ViM
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from cadlib import command_hints
from cadlib.data.dataset import open_dataset, short_sides
from cadlib.data.pixel_cache import Pixels, cached_pixels
from cadlib.data.splits import select
from cadlib.evaluation.features import SplitFeatures, split_features
from cadlib.images import read_image
from cadlib.images.corruptions import CORRUPTIONS, STRENGTHS
from cadlib.images.preprocess import InputSpec, to_array, to_pixels
from cadlib.metrics import tables
from cadlib.metrics.conditions_schema import NoveltyProof
from cadlib.model import metrics_file, weights
from cadlib.model.model import Model
from cadlib.model.novelty import Looks, appearance
from cadlib.model.record import NOVELTY_FILE, WEIGHTS_FILE, find_model
from cadlib.model.split import split_of_model
from cadlib.network.backbones import build, load_pretrained
from cadlib.taxonomy import CODES
from cadlib.training.setup import input_spec

BACKBONE = "tf_efficientnet_lite0"
SIDE_PX = 112
FROZEN_BLOCKS = 5
EPOCHS = 6
BATCH_SIZE = 64
RATE = 1e-3
ADJUSTMENT = 0.5
MOST = {"train": 1000, "validation": 300}
"""Images of a diagnosis, for a network that leaves one out."""
COMPONENTS = 128
NEIGHBOURS = 50
PRINCIPAL = 512
DAMAGED = 150
CORNERS = 300

Floats = NDArray[np.float64]
Pixels8 = NDArray[np.uint8]
Head = tuple[NDArray, NDArray]
"""Weights (K, C) and bias of the last layer."""
Change = Callable[[NDArray], Tensor]
"""Changes features, (N, C), into what a method reads."""
Score = Callable[["Shown"], Floats]
"""Returns (N,) for N images, more for a less known image."""


@dataclass(frozen=True, eq=False)
class Shown:
    """N images as a network sees them, (N, C) and (N, K) float32, and as they look, (N, F)."""

    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    looks: NDArray[np.float32]

    @classmethod
    def of(cls, part: SplitFeatures) -> "Shown":
        """Return the images of a part of the split."""
        return cls(part.features, part.logits, part.looks)

    def at(self, rows: NDArray) -> "Shown":
        """Return some of them."""
        return Shown(self.features[rows], self.logits[rows], self.looks[rows])


def fit_methods(
    train: Shown,
    labels: NDArray[np.int64],
    head: Head,
) -> Mapping[str, Score]:
    """Fit each method on training images.

    `head` is the weights (K, C) and the bias of the last layer, whose classes all occur in
    `labels`.
    """
    y = torch.from_numpy(labels.copy())
    return {
        **logit_methods(),
        **feature_methods(train, y, head),
        **looks_methods(train.looks, y),
    }


def logit_methods() -> dict[str, Score]:
    """Return the methods that read the logits alone."""

    def softmax(shown: Shown) -> Floats:
        logits = torch.from_numpy(shown.logits)
        detector = MaxSoftmax(None)
        scores = detector.predict_logits(logits)
        return scores.numpy()

    def energy(shown: Shown) -> Floats:
        logits = torch.from_numpy(shown.logits)
        detector = EnergyBased(None)
        scores = detector.predict_logits(logits)
        return scores.numpy()

    return {"softmax": softmax, "energy": energy}


def feature_methods(
    train: Shown,
    labels: Tensor,
    head: Head,
) -> dict[str, Score]:
    """Fit the methods on deep features: all of them, their principal components, or their norm."""
    pca = PCA(COMPONENTS, random_state=0)
    pca.fit(train.features)

    def components(features: NDArray) -> Tensor:
        values = pca.transform(features)
        return torch.from_numpy(values)

    def fitted(detector: Any, change: Change) -> Score:
        inputs = change(train.features)
        detector.fit_features(inputs, labels)
        return score_by(detector, change)

    unchanged = torch.from_numpy
    weight, bias = map(torch.from_numpy, head)
    virtual_logit = ViM(None, PRINCIPAL, weight, bias)
    nearest = KNN(None, k=NEIGHBOURS)
    in_components = f"{COMPONENTS} components"
    return {
        "Mahalanobis": fitted(Mahalanobis(None), unchanged),
        f"Mahalanobis, {in_components}": fitted(Mahalanobis(None), components),
        f"relative Mahalanobis, {in_components}": fitted(RMD(None), components),
        f"{NEIGHBOURS} nearest neighbours": fitted(nearest, direction),
        "ViM": fitted(virtual_logit, unchanged),
    }


def direction(features: NDArray) -> Tensor:
    """Return features of length 1."""
    return functional.normalize(torch.from_numpy(features))


def score_by(detector: Any, change: Change) -> Score:
    """Return the score of a fitted detector that reads changed features."""

    def on_features(shown: Shown) -> Floats:
        inputs = change(shown.features)
        scores = detector.predict_features(inputs)
        return scores.double().numpy()

    return on_features


def looks_methods(train: NDArray[np.float32], labels: Tensor) -> dict[str, Score]:
    """Fit the methods on what images look like, without a network."""
    looks = Looks.learn(train)
    centre = train.mean(axis=0)
    spread = train.std(axis=0)

    def standard(values: NDArray[np.float32]) -> Tensor:
        scaled = (values - centre) / spread
        return torch.from_numpy(scaled)

    # One class: the looks of all training images.
    one_class = torch.zeros_like(labels)
    detector = Mahalanobis(None)
    detector.fit_features(standard(train), one_class)

    def mahalanobis(shown: Shown) -> Floats:
        inputs = standard(shown.looks)
        scores = detector.predict_features(inputs)
        return scores.numpy()

    def nearest(shown: Shown) -> Floats:
        return looks.distances(shown.looks)

    return {
        "looks, Mahalanobis": mahalanobis,
        "looks, nearest neighbour": nearest,
    }


def against(
    known: Floats,
    other: Floats,
) -> dict[str, float]:
    """Return AUROC and FPR at 95 % TPR; the known images are the positives that have to pass."""
    truth = np.repeat([0, 1], [len(known), len(other)])
    scores = np.r_[known, other]
    limit = np.quantile(known, 0.95)
    passed = other <= limit
    auroc = roc_auc_score(truth, scores)
    return {
        "n": len(other),
        "auroc": float(auroc),
        "fpr": float(np.mean(passed)),
    }


def load_split_features(
    model: Model,
    folder: Path,
    data: Path,
    runs: Path,
) -> SplitFeatures:
    """Return the features of the model's split, saved in `runs`."""
    dataset = open_dataset(data, verify=False)
    path = runs / f"{model.record.weights_sha256[:12]}.npz"
    if not path.exists():
        features = split_features(model, folder, dataset, lambda *_: None)
        images = features.table["image"]
        np.savez(
            path,
            image=images.to_numpy(str),
            features=features.features,
            logits=features.logits,
            looks=features.looks,
        )
    saved = np.load(path)
    split = split_of_model(folder, model.record)
    table = select(dataset.table, split)
    names = table["image"].tolist()
    if names != saved["image"].tolist():
        raise SystemExit(f"Expected {path} to be of the images in {data}; delete it.")
    # Fingerprints are for similar cases, which are not measured here.
    no_prints = np.empty((len(table), 0), np.uint8)
    return SplitFeatures(
        table,
        saved["features"],
        saved["logits"],
        no_prints,
        saved["looks"],
        0,
    )


def pixels_of(images: list[FarPicture], spec: InputSpec) -> Pixels8:
    """Return images as the model reads them, (N, S, S, 3)."""
    inputs = []
    for image in images:
        adjacent = np.ascontiguousarray(image.pixels)
        whole = read_image(Image.fromarray(adjacent))
        pixels = to_pixels(whole, spec)
        inputs.append(pixels)
    return np.stack(inputs)


def show(model: Model, images: list[FarPicture]) -> Shown:
    """Show images to the model."""
    pixels = pixels_of(images, model.record.input)
    features = []
    logits = []
    for first in range(0, len(pixels), BATCH_SIZE):
        end = first + BATCH_SIZE
        outputs = model.see(pixels[first:end])
        features.append(outputs.features)
        logits.append(outputs.logits)
    return Shown(
        features=np.concatenate(features),
        logits=np.concatenate(logits),
        looks=appearance.measure(pixels),
    )


@dataclass(frozen=True, eq=False)
class FarSet:
    """Far images as the model sees them, and (N,) arrays: for the proof or not, kind, source."""

    shown: Shown
    in_proof: NDArray[np.bool_]
    kinds: NDArray[np.str_]
    sources: NDArray[np.str_]

    @classmethod
    def read(cls, model: Model, wheels: Path) -> "FarSet":
        """Draw or load all far images, and show them to the model."""
        images = list(far_pictures(wheels))
        in_proof = []
        kinds = []
        sources = []
        for image in images:
            in_proof.append(image.purpose == "proof")
            kinds.append(image.kind)
            sources.append(image.source)
        return cls(
            shown=show(model, images),
            in_proof=np.array(in_proof),
            kinds=np.array(kinds),
            sources=np.array(sources),
        )


def measure_far(
    model: Model,
    folder: Path,
    split: SplitFeatures,
    wheels: Path,
) -> dict:
    """Print and return the metrics of every method, and of the model's detector by kind."""
    validation = Shown.of(split.of("validation"))
    far = FarSet.read(model, wheels)
    by_method = measure_methods(folder, split, validation, far)
    detector = Detector.of(model, folder)
    distances = detector.looks.distances(far.shown.looks)
    known_distances = detector.looks.distances(validation.looks)
    by_kind = measure_kinds(
        detector,
        far,
        distances,
        known_distances,
    )
    in_proof = distances[far.in_proof]
    is_known = in_proof <= detector.limit
    known_share = float(np.mean(is_known))
    sources = far.sources[far.in_proof]
    missed = sorted(set(sources[is_known]))
    names = ", ".join(missed)
    print(f"\ncalled known in the proof: {known_share:.4f}; of {names}\n")
    total = against(known_distances, in_proof)
    total["known"] = known_share
    return {
        "methods": by_method,
        "kinds": by_kind,
        "proof": total,
    }


@dataclass(frozen=True, eq=False)
class Detector:
    """The model's own detector: its looks, and the limit that its distances must not exceed."""

    looks: Looks
    limit: float

    @classmethod
    def of(cls, model: Model, folder: Path) -> "Detector":
        """Read the detector of a model that has one."""
        novelty = model.record.novelty
        assert novelty is not None
        path = folder / NOVELTY_FILE
        looks = Looks.unpack(path.read_bytes())
        return cls(looks, novelty.limit)

    def unknown_share(self, images: list[Pixels8]) -> float:
        """Return the share of images that the detector calls unknown."""
        pixels = np.stack(images)
        looks = appearance.measure(pixels)
        distances = self.looks.distances(looks)
        is_unknown = distances > self.limit
        return float(np.mean(is_unknown))


def read_head(folder: Path) -> Head:
    """Return the weights and the bias of the last layer of a model."""
    path = folder / WEIGHTS_FILE
    stored = weights.unpack(path.read_bytes())
    weight = stored["classifier.weight"]
    bias = stored["classifier.bias"]
    return weight, bias


def measure_methods(
    folder: Path,
    split: SplitFeatures,
    validation: Shown,
    far: FarSet,
) -> dict:
    """Print and return the metrics of every method on far images."""
    train = split.of("train")
    head = read_head(folder)
    methods = fit_methods(Shown.of(train), train.labels, head)
    by_method = {}
    rows = []
    for name, score in methods.items():
        metrics = score_far(score, validation, far)
        by_method[name] = metrics
        row = [name]
        for of_purpose in metrics.values():
            row.append(f"{of_purpose['auroc']:.4f}")
            row.append(f"{of_purpose['fpr']:.4f}")
        rows.append(tuple(row))
    n_validation = len(validation.looks)
    print_counts(n_validation, far)
    titles = (
        "method",
        "choice: AUROC",
        "FPR",
        "proof: AUROC",
        "FPR",
    )
    table = tables.markdown_table(titles, rows)
    print(f"{table}\n")
    return by_method


def score_far(
    score: Score,
    validation: Shown,
    far: FarSet,
) -> dict[str, dict[str, float]]:
    """Return the metrics of a method on the far images for the choice, and on those of the proof."""
    scores = score(far.shown)
    validation_scores = score(validation)
    choice_scores = scores[~far.in_proof]
    proof_scores = scores[far.in_proof]
    return {
        "choice": against(validation_scores, choice_scores),
        "proof": against(validation_scores, proof_scores),
    }


def print_counts(n_known: int, far: FarSet) -> None:
    """Print the numbers of images."""
    n_proof = far.in_proof.sum()
    n_choice = len(far.in_proof) - n_proof
    sources = far.sources[far.in_proof]
    n_sources = len(set(sources))
    print(
        f"{n_known:,} validation images; {n_choice} far images for the choice, "
        f"{n_proof} for the proof, crops of {n_sources}\n"
    )


def measure_kinds(
    detector: Detector,
    far: FarSet,
    distances: Floats,
    known_distances: Floats,
) -> dict:
    """Print and return the metrics of the model's detector by kind of the proof."""
    by_kind = {}
    rows = []
    for kind in sorted(set(far.kinds[far.in_proof])):
        has_kind = far.kinds == kind
        of_kind = far.in_proof & has_kind
        kind_distances = distances[of_kind]
        is_known = kind_distances <= detector.limit
        sources = set(far.sources[of_kind])
        metrics = against(known_distances, kind_distances)
        metrics["sources"] = len(sources)
        metrics["known"] = float(np.mean(is_known))
        by_kind[kind] = metrics
        row = (
            kind,
            f"{metrics['sources']}",
            f"{metrics['n']}",
            f"{metrics['auroc']:.4f}",
            f"{metrics['fpr']:.4f}",
            f"{metrics['known']:.4f}",
        )
        rows.append(row)
    titles = (
        "kind, proof",
        "images",
        "with their crops",
        "AUROC",
        "FPR",
        "called known",
    )
    print(tables.markdown_table(titles, rows))
    return by_kind


def measure_alarms(
    model: Model,
    folder: Path,
    split: SplitFeatures,
    pixels: Pixels,
) -> dict:
    """Print and return the shares of damaged images and of plain skin that are called unknown."""
    detector = Detector.of(model, folder)
    rng = np.random.default_rng(0)
    in_validation = split.table["split"] == "validation"
    rows = np.flatnonzero(in_validation)
    shuffled = rng.permutation(rows)
    damaged_rows = np.sort(shuffled[:DAMAGED])
    images = pixels[damaged_rows]
    damaged = measure_damaged(detector, images)
    sides_px = short_sides(split.table)
    is_large = sides_px[rows] >= 224
    large = rng.permutation(rows[is_large])
    corner_rows = large[:CORNERS]
    paths = split.table["path"].iloc[corner_rows]
    size_px = model.record.input.size_px
    unknown = measure_corners(detector, paths, size_px)
    return {"damaged": damaged, "corners": unknown}


def measure_damaged(detector: Detector, images: Pixels8) -> dict[str, list[float]]:
    """Print and return the shares of (N, S, S, 3) images called unknown, by damage and strength."""
    damaged = {}
    rows = []
    for corruption in CORRUPTIONS:
        shares = []
        row = [corruption.name]
        for strength in STRENGTHS:
            # The number of an image is the seed of its damage.
            changed = [corruption(image, strength, seed) for seed, image in enumerate(images)]
            share = detector.unknown_share(changed)
            shares.append(share)
            row.append(f"{share:.2f}")
        damaged[corruption.name] = shares
        rows.append(tuple(row))
    strengths = map(str, STRENGTHS)
    titles = ("called unknown, damaged by", *strengths)
    print(tables.markdown_table(titles, rows))
    return damaged


def measure_corners(
    detector: Detector,
    paths: Iterable[str],
    size_px: int,
) -> float:
    """Print and return the share of corners of images that are called unknown."""
    corners = [corner_of(path, size_px) for path in paths]
    n_images = len(corners)
    unknown = detector.unknown_share(corners)
    print(f"\nplain skin, a corner of {n_images} real images: {unknown:.2f} called unknown\n")
    return unknown


def corner_of(path: str, size_px: int) -> Pixels8:
    """Return the upper left corner of an image, a quarter of its shorter side, enlarged."""
    whole = read_image(path).pixels
    height_px, width_px, _ = whole.shape
    side_px = min(height_px, width_px) // 4
    corner = whole[:side_px, :side_px]
    adjacent = np.ascontiguousarray(corner)
    image = Image.fromarray(adjacent)
    enlarged = image.resize((size_px, size_px))
    return np.asarray(enlarged)


def measure_near(
    split: SplitFeatures,
    pixels: Pixels,
    runs: Path,
    codes: Sequence[str],
) -> dict:
    """Leave each of these diagnoses out of training in turn.

    Print and return its AUROC against the others of validation.
    """
    rows = choose_rows(split)
    parts = split.table["split"].iloc[rows]
    images = NearImages(
        rows=rows,
        labels=split.labels[rows],
        train=(parts == "train").to_numpy(),
        looks=split.looks[rows],
    )
    maps = None
    by_code = {}
    for code in codes:
        left = CODES.index(code)
        path = runs / f"without {code}.npz"
        if not path.exists():
            # The first blocks are the same whichever diagnosis is left out.
            if maps is None:
                maps = frozen_maps(pixels, rows)
            outputs = train_without(left, maps, images.labels, images.train)
            np.savez(path, **outputs)
        stored = np.load(path)
        by_code[code] = measure_left_out(left, images, stored)
        print(f"without {code}: {by_code[code]}", flush=True)
    print_near(by_code, codes)
    return by_code


def choose_rows(split: SplitFeatures) -> NDArray[np.int64]:
    """Return the rows of at most MOST images of each diagnosis and part."""
    rng = np.random.default_rng(0)
    parts = split.table["split"].to_numpy()
    chosen = []
    for part, most in MOST.items():
        in_part = parts == part
        for code in sorted(CODES):
            label = CODES.index(code)
            has_code = split.labels == label
            rows = np.flatnonzero(in_part & has_code)
            shuffled = rng.permutation(rows)
            chosen.append(shuffled[:most])
    joined = np.concatenate(chosen)
    return np.sort(joined)


@dataclass(frozen=True, eq=False)
class NearImages:
    """The images of `--near`: rows, labels, whether they train, and looks; each has N entries."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    train: NDArray[np.bool_]
    looks: NDArray[np.float32]


def measure_left_out(
    left: int,
    images: NearImages,
    saved: Mapping[str, NDArray],
) -> dict[str, float]:
    """Return the AUROC of every method, for images of the class `left` against the others."""
    all_classes = np.arange(len(CODES))
    others = np.delete(all_classes, left)
    labels = images.labels
    logits = saved["logits"][:, others]
    network = Shown(saved["features"], logits, images.looks)
    is_new = labels == left
    fitted = images.train & ~is_new
    # Validation images of the other classes: the network has to recognise these.
    validated = ~images.train & ~is_new
    methods = fit_others(
        network.at(fitted),
        labels[fitted],
        others,
        (saved["weight"], saved["bias"]),
    )
    top = logits[validated].argmax(axis=1)
    is_right = others[top] == labels[validated]
    return {
        "n": int(is_new.sum()),
        "known": int(validated.sum()),
        "accuracy": float(is_right.mean()),
        **separations(
            methods,
            network.at(validated),
            network.at(is_new),
        ),
    }


def fit_others(
    fitted: Shown,
    labels: NDArray[np.int64],
    others: NDArray[np.int64],
    head: Head,
) -> Mapping[str, Score]:
    """Fit each method on images of the classes `others`, with their rows of the head."""
    # Classes are numbered from 0 without a gap.
    numbers = np.searchsorted(others, labels)
    weight, bias = head
    head_of_others = (weight[others], bias[others])
    return fit_methods(fitted, numbers, head_of_others)


def separations(methods: Mapping[str, Score], validated: Shown, new: Shown) -> dict[str, float]:
    """Return the AUROC of each method, for new images against validated ones."""
    return {name: against(score(validated), score(new))["auroc"] for name, score in methods.items()}


def print_near(by_code: Mapping[str, Mapping[str, float]], codes: Sequence[str]) -> None:
    """Print the AUROC of each method for each diagnosis, and their mean."""
    rows = []
    names = by_code[codes[0]]
    for name in names:
        if name in ("n", "known", "accuracy"):
            continue
        aurocs = [by_code[code][name] for code in codes]
        mean = np.mean(aurocs)
        row = [name]
        for auroc in aurocs:
            text = f"{auroc:.2f}"
            row.append(text)
        row.append(f"{mean:.3f}")
        rows.append(tuple(row))
    titles = ("AUROC, left out", *codes, "mean")
    table = tables.markdown_table(titles, rows)
    print(f"\n{table}\n")


def split_backbone() -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return the frozen first blocks, the last ones and the head, with ImageNet's weights."""
    network = build(BACKBONE, SIDE_PX)
    load_pretrained(network, BACKBONE, SIDE_PX)
    first = network.blocks[:FROZEN_BLOCKS]
    last = network.blocks[FROZEN_BLOCKS:]
    stem = nn.Sequential(
        network.conv_stem,
        network.bn1,
        *first,
    )
    tail = nn.Sequential(
        *last,
        network.conv_head,
        network.bn2,
        network.global_pool,
    )
    return stem.eval(), tail, network.classifier


@torch.inference_mode()
def frozen_maps(pixels: Pixels, rows: NDArray) -> Tensor:
    """Return the output of the first blocks for each image."""
    stem, _, _ = split_backbone()
    network = build(BACKBONE, SIDE_PX)
    spec = input_spec(network, SIDE_PX)
    n_batches = -(-len(rows) // BATCH_SIZE)
    maps = []
    for batch in np.array_split(rows, n_batches):
        images = pixels[batch]
        small = [shrink(image) for image in images]
        values = to_array(np.stack(small), spec)
        inputs = torch.from_numpy(values)
        output = stem(inputs)
        # Half precision: all maps are in memory at once.
        maps.append(output.half())
    joined = torch.cat(maps)
    return joined.float()


def shrink(image: Pixels8) -> Pixels8:
    """Return an image at the side that the network reads."""
    size = (SIDE_PX, SIDE_PX)
    whole = Image.fromarray(image)
    small = whole.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(small)


def train_without(
    left: int,
    maps: Tensor,
    labels: NDArray[np.int64],
    train: NDArray[np.bool_],
) -> dict[str, NDArray]:
    """Train the last blocks on all diagnoses but one.

    Return features and logits of every image, and the weights of the head.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    _, tail, head = split_backbone()
    is_other = labels != left
    rows = np.flatnonzero(train & is_other)
    steps = len(rows) // BATCH_SIZE
    adjustment = logit_adjustment(labels[rows])
    parameters = [*tail.parameters(), *head.parameters()]
    optimizer, schedule = one_cycle(parameters, steps * EPOCHS)
    tail.train()
    for batch in epoch_batches(rows, steps, rng):
        inputs = mirror(maps[batch], rng)
        features = functional.dropout(tail(inputs), 0.2)
        logits = head(features) + adjustment
        take_step(logits, labels[batch], optimizer)
        schedule.step()
    tail.eval()
    return predict_all(tail, head, maps)


def epoch_batches(
    rows: NDArray[np.int64],
    steps: int,
    rng: np.random.Generator,
) -> Iterator[NDArray[np.int64]]:
    """Yield the batches of all epochs, each epoch in another order."""
    count = steps * BATCH_SIZE
    for _ in range(EPOCHS):
        order = rng.permutation(rows)
        batches = np.array_split(order[:count], steps)
        yield from batches


def take_step(
    logits: Tensor,
    labels: NDArray[np.int64],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Change the weights of the optimizer so that the cross-entropy of a batch falls."""
    target = torch.from_numpy(labels)
    loss = functional.cross_entropy(logits, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def one_cycle(
    parameters: list[nn.Parameter],
    steps: int,
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    """Return the optimizer, and the schedule of its learning rate over so many steps."""
    optimizer = torch.optim.AdamW(parameters, RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        RATE,
        total_steps=steps,
        pct_start=0.1,
    )
    return optimizer, schedule


def mirror(maps: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror a batch, (N, C, h, w): left and right, and up and down, each with a chance of 0.5."""
    axes = [axis for axis in (3, 2) if rng.random() < 0.5]
    return maps.flip(axes)


def logit_adjustment(labels: NDArray[np.int64]) -> Tensor:
    """Return the log frequency of each class, weighted; the class left out counts as one image."""
    counts = np.bincount(labels, minlength=len(CODES))
    at_least_one = np.maximum(counts, 1)
    shares = at_least_one / counts.sum()
    frequency = torch.tensor(shares)
    log_frequency = frequency.log()
    return ADJUSTMENT * log_frequency.float()


@torch.inference_mode()
def predict_all(
    tail: nn.Module,
    head: nn.Module,
    maps: Tensor,
) -> dict[str, NDArray]:
    """Return features and logits of every image, and the weights of the head."""
    features = torch.cat([tail(part) for part in maps.split(256)])
    logits = head(features)
    weight = head.weight.detach()
    bias = head.bias.detach()
    return {
        "features": features.numpy(),
        "logits": logits.numpy(),
        "weight": weight.numpy(),
        "bias": bias.numpy(),
    }


def read_options() -> argparse.Namespace:
    """Read the command line."""
    summary_line = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary_line)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--model", default="isic2019")
    parser.add_argument(
        "--near",
        nargs="+",
        choices=CODES,
        default=[],
        metavar="CODE",
    )
    parser.add_argument("--into-model", action="store_true")
    return parser.parse_args()


def write_into_model(model: Model, folder: Path, metrics: dict) -> None:
    """Write the metrics into metrics.json and the card of a model."""
    record = model.record
    text = json.dumps(metrics)
    proof = msgspec.json.decode(text, type=NoveltyProof)
    model_metrics = metrics_file.measured(folder, record)
    model_metrics = msgspec.structs.replace(model_metrics, novelty_proof=proof)
    metrics_file.write_into(folder, record, model_metrics)


def main() -> None:
    """Measure and print."""
    options = read_options()
    options.runs.mkdir(parents=True, exist_ok=True)
    model = Model.load(options.model)
    folder = find_model(options.model)
    if model.record.novelty is None:
        command = command_hints.index(options.model)
        raise SystemExit(f"{model.record.model_id} has no detector; fit one with `{command}`.")
    split = load_split_features(model, folder, options.data, options.runs)
    pixels = cached_pixels(split.table, model.record.input)
    far = measure_far(model, folder, split, options.runs / "wheels")
    alarms = measure_alarms(model, folder, split, pixels)
    metrics = {
        "sha256": model.record.novelty.sha256,
        "far": far,
        **alarms,
    }
    if options.near:
        metrics["near"] = measure_near(split, pixels, options.runs, options.near)
    if options.into_model:
        write_into_model(model, folder, metrics)
    result = {
        "far": far["proof"],
        "corners": alarms["corners"],
        "near": metrics.get("near"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
