"""A slice of `benchmarks/model_mutations.py`, on a small model."""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs

from cadlib.images.preprocess import InputSpec
from cadlib.model import manifest, weights
from cadlib.model.golden import golden_json
from cadlib.model.model import Model
from cadlib.model.neighbours import NeighbourIndex
from cadlib.model.novelty import Looks
from cadlib.model.record import (
    CARD_FILE,
    GOLDEN_FILE,
    METRICS_FILE,
    NEIGHBOURS_FILE,
    NOVELTY_FILE,
    ONNX_FILE,
    SPLIT_FILE,
    WEIGHTS_FILE,
    find_model,
    read_json,
    read_record,
    write_folder,
)
from cadlib.network import backbones
from cadlib.network.onnx_export import to_onnx
from tests.model_folders import with_member

BACKBONE = "test_efficientnet"
CASES = 40


def small_index(features: int) -> NeighbourIndex:
    """Return an index of random images."""
    rng = np.random.default_rng(0)
    return NeighbourIndex(
        basis=rng.normal(size=(features, 4)).astype(np.float32),
        vectors=rng.integers(-127, 127, (CASES, 4), dtype=np.int8),
        fingerprints=rng.integers(0, 255, (CASES, 32), dtype=np.uint8),
        images=np.array([f"ISIC_{number:07}".encode() for number in range(CASES)]),
        diagnoses=(np.arange(CASES) % 8).astype(np.uint8),
        lesions=np.arange(CASES, dtype=np.int32),
        archives=np.zeros(CASES, np.uint8),
        archive_names=np.array([b"drawn"]),
    )


@pytest.fixture(scope="module")
def small_model(tmp_path_factory) -> Path:
    """Return the folder of a small model of random weights that has every file a model may have."""
    shipped = find_model("isic2019")
    torch.manual_seed(0)
    built = backbones.build(BACKBONE, 64)
    torch.nn.init.normal_(built.get_classifier().weight)
    spec, layer = (
        InputSpec(64, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), symmetric=True),
        backbones.saliency_layer(built),
    )
    looks = Looks.unpack((shipped / NOVELTY_FILE).read_bytes())
    figures = read_json(shipped / METRICS_FILE)
    files = {
        WEIGHTS_FILE: weights.pack(backbones.arrays_of(built)),
        ONNX_FILE: to_onnx(built, layer, spec),
        NEIGHBOURS_FILE: small_index(built.num_features).to_bytes(),
        NOVELTY_FILE: Looks(looks.mean, looks.scale, looks.stored[:CASES]).pack(),
        SPLIT_FILE: b"image,lesion_group,split\nISIC_1,1,train\nISIC_2,2,test\n",
        METRICS_FILE: json.dumps(
            {key: figures[key] for key in ("n", "data", "intervals")}
        ).encode(),
        CARD_FILE: b"# small\n\nIt is not good for 0.9 of the images.\n",
    }
    sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    made = read_record(shipped)
    made = structs.replace(
        made,
        name="small",
        input=spec,
        training=structs.replace(made.training, split_sha256=sha256[SPLIT_FILE]),
        audit=None,
        neighbours=structs.replace(made.neighbours, sha256=sha256[NEIGHBOURS_FILE], images=CASES),
        novelty=structs.replace(made.novelty, sha256=sha256[NOVELTY_FILE]),
    )
    made = with_member(
        made,
        backbone=BACKBONE,
        saliency_layer=layer,
        weights_sha256=sha256[WEIGHTS_FILE],
        onnx_sha256=sha256[ONNX_FILE],
    )
    folder = tmp_path_factory.mktemp("models") / "small"
    folder.mkdir()
    files[GOLDEN_FILE] = golden_json(Model.assemble(made, files, folder)).encode()
    write_folder(folder, made, files)
    return folder


@pytest.fixture(scope="module")
def benchmark():
    """Return the module, which is no part of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(Path(__file__).parents[1] / "benchmarks"), *sys.path])
        import model_mutations

        return model_mutations


def test_an_altered_model_is_refused_by_name_or_answers_as_before(benchmark, small_model):
    results = list(benchmark.mutate(small_model, 200, seed=1))
    assert [result for result in results if result.fault] == []
    outcomes = Counter(result.outcome for result in results)
    assert outcomes["refused"] > 120
    assert len({result.kind for result in results}) > 20


def test_the_slice_finds_a_model_whose_hashes_are_not_compared(benchmark, small_model, monkeypatch):
    monkeypatch.setattr(manifest, "_checked", lambda path, facts: path.read_bytes())
    assert any(result.fault for result in benchmark.mutate(small_model, 60, seed=2))
