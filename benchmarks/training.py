"""Images a second while training: our loop against a plain PyTorch loop, on the same network and files in the same run.

    python benchmarks/training.py [--images N] [--rounds N]

Ours is `cadlib.training.loop.train` as it stands, with the settings of TrainConfig: pixels decoded once and
read from the
cache, channels last; checkpoint and validation included. The plain loop decodes and resizes each file with Pillow in
every epoch, in a DataLoader of as many workers, float32, contiguous; augmentation, optimizer, batch size and side are
the same. Each is timed over its second epoch, in a process of its own, in turns; the best of the rounds counts. The
source files are lesions drawn at 600 × 450 and 1024 × 1024 px and, where CADLIB_DATA names a folder with isic2019/,
images of it. Prints a table and, as its last line, one JSON object of ratios: ours over plain, and the same with the
cost of hashing and caching spread over the default number of epochs (all_in).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch
from PIL import Image
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cadlib.data import splits
from cadlib.data.dataset import open_dataset
from cadlib.data.pixel_cache import cached_pixels
from cadlib.images.synthetic import render_lesion
from cadlib.network.backbones import build, load_pretrained
from cadlib.taxonomy import CODES
from cadlib.training.augment import augment
from cadlib.training.config import TrainConfig
from cadlib.training.loop import train
from cadlib.training.run import HISTORY_FILE
from cadlib.training.setup import input_spec

DEFAULTS = TrainConfig()
CONFIG = replace(DEFAULTS, epochs=2, first_px=DEFAULTS.last_px, validation=0.06, test=0.0)
DRAWN_A_CLASS = 16
TRUTH, INPUT = "ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Input"


class Files(Dataset[tuple[Tensor, Tensor]]):
    """What a plain loop reads: each file decoded, cropped to its centred square, resized, varied, normalised."""

    def __init__(self, folder: Path) -> None:
        table = open_dataset(folder, verify=False).table
        self._paths, self._labels = (
            table["path"].tolist(),
            table["diagnosis"].map(CODES.index).tolist(),
        )
        self._spec = input_spec(build(CONFIG.backbone, CONFIG.input_px), CONFIG.input_px)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        picture, spec = Image.open(self._paths[row]).convert("RGB"), self._spec
        square = picture.crop(spec.crop_box(*picture.size)).resize(
            (spec.size_px, spec.size_px), Image.Resampling.BICUBIC
        )
        image = torch.from_numpy(np.array(square)).permute(2, 0, 1)
        image = (
            augment(image, CONFIG.last_px, int(torch.randint(2**62, ())), CONFIG.least_crop).float()
            / 255
        )
        mean, std = torch.tensor(spec.mean).view(3, 1, 1), torch.tensor(spec.std).view(3, 1, 1)
        return ((image - mean) / std).contiguous(), torch.tensor(self._labels[row])


def plain(folder: Path) -> float:
    """Train the plain way; return the images a second of the second epoch."""
    loader = DataLoader(
        Files(folder),
        CONFIG.batch_size,
        shuffle=True,
        num_workers=CONFIG.workers,
        drop_last=True,
        persistent_workers=True,
    )
    network = build(
        CONFIG.backbone,
        CONFIG.input_px,
        drop_rate=CONFIG.drop_rate,
        drop_path_rate=CONFIG.drop_path_rate,
    )
    load_pretrained(network, CONFIG.backbone, CONFIG.input_px)
    network.train()
    groups = param_groups_layer_decay(network, CONFIG.weight_decay, layer_decay=CONFIG.layer_decay)
    optimizer, loss_of = torch.optim.AdamW(groups, lr=CONFIG.learning_rate), nn.CrossEntropyLoss()
    for _ in range(CONFIG.epochs):
        began = time.perf_counter()
        for images, labels in loader:
            loss = loss_of(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return len(loader) * CONFIG.batch_size / (time.perf_counter() - began)


def ours(folder: Path) -> float:
    """Train our way; return the images a second of the second epoch."""
    with TemporaryDirectory() as run_dir:
        trained = train(folder, Path(run_dir), CONFIG)
        lines = (Path(run_dir) / HISTORY_FILE).read_text().splitlines()
    assert trained is not None
    first, second = (json.loads(line)["seconds"] for line in lines)
    return trained.data.epoch_images // CONFIG.batch_size * CONFIG.batch_size / (second - first)


def prepare(folder: Path) -> float:
    """Hash and cache every image, which ours does once before the first epoch; return images a second."""
    table = open_dataset(folder, verify=False).table
    began = time.perf_counter()
    splits.perceptual_hashes(table)
    cached_pixels(table, input_spec(build(CONFIG.backbone, CONFIG.input_px), CONFIG.input_px))
    return len(table) / (time.perf_counter() - began)


LOOPS = {"plain": plain, "ours": ours, "prepare": prepare}


def drawn(folder: Path, images: int, size: tuple[int, int]) -> Path:
    """Write lesions of a size as JPEG files in ISIC's layout, each drawing several times."""
    (folder / INPUT).mkdir(parents=True)
    copies = max(images // (DRAWN_A_CLASS * len(CODES)), 1)
    rows, number = [f"image,{','.join(CODES)}"], 0
    for code in CODES:
        for seed in range(DRAWN_A_CLASS):
            side = max(size)
            top = (side - size[1]) // 2
            picture = Image.fromarray(render_lesion(code, seed, side)).crop(
                (0, top, side, top + size[1])
            )
            for _ in range(copies):
                picture.save(folder / INPUT / f"ISIC_{number:07}.jpg", quality=90)
                rows.append(
                    f"ISIC_{number:07},{','.join('1.0' if code == c else '0.0' for c in CODES)}"
                )
                number += 1
    (folder / TRUTH).write_text("\n".join(rows) + "\n")
    return folder


def sampled(folder: Path, source: Path, images: int) -> Path:
    """Link images of a data set, as many a class as there are and drawn by chance, into a folder of ISIC's layout."""
    (folder / INPUT).mkdir(parents=True)
    shuffled = open_dataset(source, verify=False).table.sample(frac=1, random_state=0)
    for path in shuffled.groupby("diagnosis").head(images // len(CODES))["path"]:
        (folder / INPUT / Path(path).name).symlink_to(path)
    (folder / TRUTH).symlink_to(source.resolve() / TRUTH)
    return folder


def timed(loop: str, folder: Path) -> float:
    """Run a loop in a process of its own; return its images a second."""
    command = [sys.executable, __file__, "--loop", loop, "--folder", str(folder)]
    environment = {**os.environ, "CADLIB_CACHE": str(folder / "cache")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def compare(name: str, folder: Path, rounds: int) -> dict[str, float]:
    """Print the rows of one source and return its ratios."""
    speed = {"prepare": timed("prepare", folder), "plain": 0.0, "ours": 0.0}
    for _ in range(rounds):
        for loop in ("plain", "ours"):
            speed[loop] = max(speed[loop], timed(loop, folder))
    spread = 1 / (1 / speed["ours"] + 1 / (speed["prepare"] * DEFAULTS.epochs))
    print(f"{name}\n  plain loop                                {speed['plain']:7.1f} images/s")
    print(f"  ours                                      {speed['ours']:7.1f} images/s")
    print(f"  ours, hashing and caching over {DEFAULTS.epochs:2} epochs  {spread:7.1f} images/s")
    print(
        f"  hashing and caching, once                 {speed['prepare']:7.1f} images/s", flush=True
    )
    return {
        "ours_over_plain": round(speed["ours"] / speed["plain"], 2),
        "all_in": round(spread / speed["plain"], 2),
    }


def main() -> None:
    """Measure and print, or run one loop for the process that does."""
    flags = argparse.ArgumentParser(description="images a second while training")
    flags.add_argument("--images", type=int, default=1024, help="files of each source")
    flags.add_argument("--rounds", type=int, default=2)
    flags.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    flags.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = flags.parse_args()
    if options.loop:
        print(LOOPS[options.loop](options.folder))
        return
    print(
        f"{CONFIG.backbone}, batches of {CONFIG.batch_size} at {CONFIG.last_px} px, cache at {CONFIG.input_px} px, "
        f"ours {CONFIG.precision}, {CONFIG.workers} workers, {torch.get_num_threads()} threads"
    )
    ratios = {}
    with TemporaryDirectory() as temporary:
        for size in ((600, 450), (1024, 1024)):
            name = f"{size[0]}x{size[1]}"
            ratios[name] = compare(
                f"drawn, {name} px",
                drawn(Path(temporary, name), options.images, size),
                options.rounds,
            )
        real = Path(os.environ.get("CADLIB_DATA", ""), "isic2019")
        if os.environ.get("CADLIB_DATA") and real.is_dir():
            folder = sampled(Path(temporary, "real"), real, options.images)
            ratios["isic2019"] = compare(
                f"{options.images} images of {real}", folder, options.rounds
            )
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
