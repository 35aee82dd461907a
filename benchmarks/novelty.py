"""How far a picture is known that is no dermoscopy of a lesion, and a lesion of a diagnosis never trained on.

    python benchmarks/novelty.py --data DIR --runs DIR [--model NAME] [--near CODE …] [--into-model]

`--data` is a folder of ISIC 2019 layout. What takes minutes is kept in `--runs`, and taken from there the next time.
Prints, by each method, the area under the ROC curve of far pictures (`far_pictures.py`) against the validation images
of the model, with the share of far pictures that pass where 95 % of those images do (FPR), and by kind. The methods on
deep features are pytorch-ood's. Then the shares that the model's own detector calls unknown: of damaged pictures, of
plain skin in the corners of real ones. `--near MEL NV …` leaves each of these diagnoses out of training in turn and
holds its images against those of the others: the last blocks of EfficientNet-Lite0 trained on what ImageNet's first
five make of pictures of 112 px, but for mirroring not augmented, some four minutes a diagnosis on one core.
`--into-model` puts the figures into metrics.json and the card. The last line is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

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
from cadlib.model import metrics_file, weights
from cadlib.model.model import Model
from cadlib.model.novelty import Looks, appearance
from cadlib.model.record import NOVELTY_FILE, WEIGHTS_FILE, find_model
from cadlib.model.split import own_split
from cadlib.network.backbones import build, load_pretrained
from cadlib.taxonomy import CODES

BACKBONE, SIDE_PX, FROZEN_BLOCKS = "tf_efficientnet_lite0", 112, 5
EPOCHS, BATCH_SIZE, RATE, ADJUSTMENT = 6, 64, 1e-3, 0.5
MOST = {"train": 1000, "validation": 300}
"""Images of a diagnosis, for a network that leaves one out."""
COMPONENTS, NEIGHBOURS, PRINCIPAL = 128, 50, 512
DAMAGED, CORNERS = 150, 300

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shown:
    """N pictures as a network sees them, (N, C) and (N, K) float32, and as they look, (N, F)."""

    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    looks: NDArray[np.float32]

    def at(self, rows: NDArray) -> "Shown":
        """Return some of them."""
        return Shown(self.features[rows], self.logits[rows], self.looks[rows])


def methods(
    train: Shown, labels: NDArray[np.int64], head: tuple[NDArray, NDArray]
) -> Mapping[str, Callable]:
    """Fit each method on training images; it returns (N,) for Shown pictures, more for what is less known.

    `head` is the weights (K, C) and the bias of the last layer, whose classes all occur in `labels`.
    """
    x, y = torch.from_numpy(train.features), torch.from_numpy(labels.copy())
    pca = PCA(COMPONENTS, random_state=0).fit(train.features)
    part = torch.from_numpy(pca.transform(train.features))
    full = Mahalanobis(None).fit_features(x, y)
    first, relative = Mahalanobis(None).fit_features(part, y), RMD(None).fit_features(part, y)
    knn = KNN(None, k=NEIGHBOURS).fit_features(functional.normalize(x), y)
    vim = ViM(None, PRINCIPAL, *map(torch.from_numpy, head)).fit_features(x, y)
    looks = Looks.learn(train.looks)
    centre, spread = train.looks.mean(axis=0), train.looks.std(axis=0)
    one = Mahalanobis(None).fit_features(
        torch.from_numpy((train.looks - centre) / spread), torch.zeros_like(y)
    )

    def on_features(detector, change=torch.from_numpy):
        return lambda shown: detector.predict_features(change(shown.features)).double().numpy()

    def in_part(values):
        return torch.from_numpy(pca.transform(values))

    return {
        "softmax": lambda shown: (
            MaxSoftmax(None).predict_logits(torch.from_numpy(shown.logits)).numpy()
        ),
        "energy": lambda shown: (
            EnergyBased(None).predict_logits(torch.from_numpy(shown.logits)).numpy()
        ),
        "Mahalanobis": on_features(full),
        f"Mahalanobis, {COMPONENTS} components": on_features(first, in_part),
        f"relative Mahalanobis, {COMPONENTS} components": on_features(relative, in_part),
        f"{NEIGHBOURS} nearest neighbours": on_features(
            knn, lambda v: functional.normalize(torch.from_numpy(v))
        ),
        "ViM": on_features(vim),
        "looks, Mahalanobis": lambda shown: one.predict_features(
            torch.from_numpy((shown.looks - centre) / spread)
        ).numpy(),
        "looks, nearest neighbour": lambda shown: looks.distances(shown.looks),
    }


def against(known: Floats, other: Floats) -> dict[str, float]:
    """Return AUROC and FPR at 95 % TPR, the images that are known being the positives that have to pass."""
    truth = np.repeat([0, 1], [len(known), len(other)])
    passed = np.mean(other <= np.quantile(known, 0.95))
    return {
        "n": len(other),
        "auroc": float(roc_auc_score(truth, np.r_[known, other])),
        "fpr": float(passed),
    }


def seen_images(model: Model, folder: Path, data: Path, runs: Path) -> SplitFeatures:
    """Return what the model sees of its split, kept in `runs`."""
    dataset, path = (
        open_dataset(data, verify=False),
        runs / f"{model.record.weights_sha256[:12]}.npz",
    )
    if not path.exists():
        found = split_features(model, folder, dataset, lambda *_: None)
        image = found.table["image"].to_numpy(str)
        np.savez(path, image=image, features=found.features, logits=found.logits, looks=found.looks)
    kept, table = np.load(path), select(dataset.table, own_split(folder, model.record))
    if table["image"].tolist() != kept["image"].tolist():
        raise SystemExit(f"Expected {path} to be of the images in {data}; delete it.")
    no_prints = np.empty((len(table), 0), np.uint8)  # similar cases have no part in this
    return SplitFeatures(table, kept["features"], kept["logits"], no_prints, kept["looks"], 0)


def show(model: Model, pictures: list[FarPicture]) -> Shown:
    """Show pictures to the model."""
    pixels = np.stack([to_pixels(read_image(Image.fromarray(np.ascontiguousarray(one.pixels))), model.record.input)
                       for one in pictures])  # fmt: skip
    seen = [
        model.see(pixels[first : first + BATCH_SIZE]) for first in range(0, len(pixels), BATCH_SIZE)
    ]
    features, logits = (
        np.concatenate([getattr(one, what) for one in seen]) for what in ("features", "logits")
    )
    return Shown(features, logits, appearance.measure(pixels))


def far(model: Model, folder: Path, seen: SplitFeatures, wheels: Path) -> dict:
    """Measure every method on far pictures, and the model's detector by kind; print, and return the figures."""
    train, known = (
        Shown(part.features, part.logits, part.looks)
        for part in (seen.of("train"), seen.of("validation"))
    )
    pictures = list(far_pictures(wheels))
    shown = show(model, pictures)
    proof = np.array([one.purpose == "proof" for one in pictures])
    kinds, sources = (
        np.array([one.kind for one in pictures]),
        np.array([one.source for one in pictures]),
    )
    stored = weights.unpack((folder / WEIGHTS_FILE).read_bytes())
    head = stored["classifier.weight"], stored["classifier.bias"]
    rows, found = [], {}
    for name, score in methods(train, seen.of("train").labels, head).items():
        scores, own = score(shown), score(known)
        chosen, proved = against(own, scores[~proof]), against(own, scores[proof])
        found[name] = {"choice": chosen, "proof": proved}
        rows.append(
            (name, *(f"{part[key]:.4f}" for part in (chosen, proved) for key in ("auroc", "fpr")))
        )
    print(
        f"{len(known.looks):,} validation images; {(~proof).sum()} far pictures for the choice, {proof.sum()} for the "
        f"proof, crops of {len({*sources[proof]})}\n"
    )
    print(
        tables.markdown_table(("method", "choice: AUROC", "FPR", "proof: AUROC", "FPR"), rows)
        + "\n"
    )

    assert model.record.novelty is not None
    limit, looks = model.record.novelty.limit, Looks.unpack((folder / NOVELTY_FILE).read_bytes())
    distances, own = looks.distances(shown.looks), looks.distances(known.looks)
    by_kind = {}
    for kind in sorted({*kinds[proof]}):
        here = proof & (kinds == kind)
        passed = float(np.mean(distances[here] <= limit))
        by_kind[kind] = {
            **against(own, distances[here]),
            "sources": len({*sources[here]}),
            "known": passed,
        }
    print(tables.markdown_table(
        ("kind, proof", "pictures", "of them crops and all", "AUROC", "FPR", "called known"),
        [(kind, f"{part['sources']}", f"{part['n']}", *(f"{part[key]:.4f}" for key in ("auroc", "fpr", "known")))
         for kind, part in by_kind.items()],
    ))  # fmt: skip
    missed = sorted({*sources[proof & (distances <= limit)]})
    print(
        f"\ncalled known in the proof: {np.mean(distances[proof] <= limit):.4f}; of {', '.join(missed)}\n"
    )
    total = {**against(own, distances[proof]), "known": float(np.mean(distances[proof] <= limit))}
    return {"methods": found, "kinds": by_kind, "proof": total}


def alarms(model: Model, folder: Path, seen: SplitFeatures, pixels: Pixels) -> dict:
    """Print and return which share of damaged pictures, and of plain skin, the detector calls unknown."""
    assert model.record.novelty is not None
    limit, looks = model.record.novelty.limit, Looks.unpack((folder / NOVELTY_FILE).read_bytes())

    def unknown(pictures: list[NDArray[np.uint8]]) -> float:
        return float(np.mean(looks.distances(appearance.measure(np.stack(pictures))) > limit))

    rng, rows = np.random.default_rng(0), np.flatnonzero(seen.table["split"] == "validation")
    images = pixels[np.sort(rng.permutation(rows)[:DAMAGED])]
    damaged = {
        corruption.name: [
            unknown([corruption(one, s, seed) for seed, one in enumerate(images)])
            for s in STRENGTHS
        ]
        for corruption in CORRUPTIONS
    }
    print(tables.markdown_table(
        ("called unknown, damaged by", *map(str, STRENGTHS)),
        [(name, *(f"{share:.2f}" for share in shares)) for name, shares in damaged.items()],
    ))  # fmt: skip
    large = rows[short_sides(seen.table)[rows] >= 224]
    corners = []
    for path in seen.table["path"].iloc[rng.permutation(large)[:CORNERS]]:
        whole = read_image(path).pixels
        side, size = min(whole.shape[:2]) // 4, (model.record.input.size_px,) * 2
        corners.append(
            np.asarray(Image.fromarray(np.ascontiguousarray(whole[:side, :side])).resize(size))
        )
    print(
        f"\nplain skin, a corner of {len(corners)} real pictures: {unknown(corners):.2f} called unknown\n"
    )
    return {"damaged": damaged, "corners": unknown(corners)}


def near(seen: SplitFeatures, pixels: Pixels, runs: Path, codes: Sequence[str]) -> dict:
    """Leave each of these diagnoses out in turn; print and return its AUROC against the others of validation."""
    rng, chosen = np.random.default_rng(0), []
    for part, most in MOST.items():
        of_part = (seen.table["split"] == part).to_numpy()
        for code in sorted(CODES):
            of_both = np.flatnonzero(of_part & (seen.labels == CODES.index(code)))
            chosen.append(rng.permutation(of_both)[:most])
    rows = np.sort(np.concatenate(chosen))
    labels, train = seen.labels[rows], (seen.table["split"].iloc[rows] == "train").to_numpy()
    maps, found = None, {}
    for left, code in ((CODES.index(code), code) for code in codes):
        path = runs / f"without {code}.npz"
        if not path.exists():
            maps = frozen_maps(pixels, rows) if maps is None else maps
            np.savez(path, **without(left, maps, labels, train))
        kept = np.load(path)
        others = np.delete(np.arange(len(CODES)), left)
        network = Shown(kept["features"], kept["logits"][:, others], seen.looks[rows])
        fitted, known, new = train & (labels != left), ~train & (labels != left), labels == left
        head = kept["weight"][others], kept["bias"][others]
        scores = methods(network.at(fitted), np.searchsorted(others, labels[fitted]), head)
        found[code] = {
            "n": int(new.sum()), "known": int(known.sum()),
            "accuracy": float(np.mean(others[network.logits[known].argmax(axis=1)] == labels[known])),
            **{name: against(score(network.at(known)), score(network.at(new)))["auroc"]
               for name, score in scores.items()},
        }  # fmt: skip
        print(f"without {code}: {found[code]}", flush=True)
    names = [name for name in found[codes[0]] if name not in ("n", "known", "accuracy")]
    rows = [(name, *(f"{found[code][name]:.2f}" for code in codes),
             f"{np.mean([found[code][name] for code in codes]):.3f}") for name in names]  # fmt: skip
    print("\n" + tables.markdown_table(("AUROC, left out", *codes, "mean"), rows) + "\n")
    return found


def backbone() -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return the frozen first blocks, the last ones and the head of a network with ImageNet's weights."""
    network = build(BACKBONE, SIDE_PX)
    load_pretrained(network, BACKBONE, SIDE_PX)
    stem = nn.Sequential(network.conv_stem, network.bn1, *network.blocks[:FROZEN_BLOCKS])
    tail = nn.Sequential(
        *network.blocks[FROZEN_BLOCKS:], network.conv_head, network.bn2, network.global_pool
    )
    return stem.eval(), tail, network.classifier


@torch.inference_mode()
def frozen_maps(pixels: Pixels, rows: NDArray) -> Tensor:
    """Return what the first blocks make of each picture."""
    stem, _, _ = backbone()
    facts = build(BACKBONE, SIDE_PX).pretrained_cfg
    spec = InputSpec(SIDE_PX, facts["interpolation"], tuple(facts["mean"]), tuple(facts["std"]))
    maps = []
    for batch in np.array_split(rows, -(-len(rows) // BATCH_SIZE)):
        small = [np.asarray(Image.fromarray(one).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))
                 for one in pixels[batch]]  # fmt: skip
        maps.append(stem(torch.from_numpy(to_array(np.stack(small), spec))).half())
    return torch.cat(maps).float()


def without(
    left: int, maps: Tensor, labels: NDArray[np.int64], train: NDArray[np.bool_]
) -> dict[str, NDArray]:
    """Train the last blocks on all but one diagnosis; return what the network says of every picture, and its head."""
    torch.manual_seed(0)
    rng, (_, tail, head) = np.random.default_rng(0), backbone()
    rows = np.flatnonzero(train & (labels != left))
    counts = np.bincount(labels[rows], minlength=len(CODES))
    adjustment = ADJUSTMENT * torch.tensor(np.maximum(counts, 1) / counts.sum()).log().float()
    steps = len(rows) // BATCH_SIZE
    optimizer = torch.optim.AdamW([*tail.parameters(), *head.parameters()], RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps * EPOCHS, pct_start=0.1
    )
    for _ in range(EPOCHS):
        for batch in np.array_split(rng.permutation(rows)[: steps * BATCH_SIZE], steps):
            mirrored = [axis for axis in (3, 2) if rng.random() < 0.5]
            features = functional.dropout(tail.train()(maps[batch].flip(mirrored)), 0.2)
            loss = functional.cross_entropy(
                head(features) + adjustment, torch.from_numpy(labels[batch])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    tail.eval()
    with torch.inference_mode():
        features = torch.cat([tail(some) for some in maps.split(256)])
        logits = head(features)
    return {"features": features.numpy(), "logits": logits.numpy(), "weight": head.weight.detach().numpy(),
            "bias": head.bias.detach().numpy()}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--model", default="isic2019")
    parser.add_argument("--near", nargs="+", choices=CODES, default=[], metavar="CODE")
    parser.add_argument("--into-model", action="store_true")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    model, folder = Model.load(options.model), find_model(options.model)
    if model.record.novelty is None:
        command = command_hints.index(options.model)
        raise SystemExit(f"{model.record.model_id} has no detector; fit one with `{command}`.")
    seen = seen_images(model, folder, options.data, options.runs)
    pixels = cached_pixels(seen.table, model.record.input)
    found = {"sha256": model.record.novelty.sha256, "far": far(model, folder, seen, options.runs / "wheels"),
             **alarms(model, folder, seen, pixels)}  # fmt: skip
    if options.near:
        found["near"] = near(seen, pixels, options.runs, options.near)
    if options.into_model:
        figures = metrics_file.measured(folder, model.record)
        metrics_file.write_into(folder, model.record, {**figures, "novelty_proof": found})
    print(
        json.dumps(
            {"far": found["far"]["proof"], "corners": found["corners"], "near": found.get("near")}
        )
    )


if __name__ == "__main__":
    main()
