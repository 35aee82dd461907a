"""A slice of `benchmarks/model_mutations.py`, on a small model."""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

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
from tests.random_network import BACKBONE, SPEC, random_network
from tests.tiny_training import graphs_exported_once

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


def with_hashes(record, files):
    """Return a record with the hashes of these files, and the number of similar cases."""
    sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    record = with_member(record, weights_sha256=sha256[WEIGHTS_FILE], onnx_sha256=sha256[ONNX_FILE])
    return structs.replace(
        record,
        training=structs.replace(record.training, split_sha256=sha256[SPLIT_FILE]),
        neighbours=structs.replace(record.neighbours, sha256=sha256[NEIGHBOURS_FILE], images=CASES),
        novelty=structs.replace(record.novelty, sha256=sha256[NOVELTY_FILE]),
    )


def small_detector(folder: Path) -> bytes:
    """Return a model's novelty detector with its first images only."""
    looks = Looks.unpack((folder / NOVELTY_FILE).read_bytes())
    return Looks(looks.mean, looks.scale, looks.stored[:CASES]).pack()


def small_metrics(folder: Path) -> bytes:
    """Return a few sections of a model's metrics.json."""
    metrics = read_json(folder / METRICS_FILE)
    return json.dumps({key: metrics[key] for key in ("n", "data", "intervals")}).encode()


@pytest.fixture(scope="module")
def small_model(tmp_path_factory) -> Path:
    """Return the folder of a small model of random weights that has every file a model may have."""
    shipped = find_model("isic2019")
    network = random_network()
    layer = backbones.saliency_layer(network)
    with graphs_exported_once():
        graph = to_onnx(network, layer, SPEC)
    files = {
        WEIGHTS_FILE: weights.pack(backbones.arrays_of(network)),
        ONNX_FILE: graph,
        NEIGHBOURS_FILE: small_index(network.num_features).to_bytes(),
        NOVELTY_FILE: small_detector(shipped),
        SPLIT_FILE: b"image,lesion_group,split\nISIC_1,1,train\nISIC_2,2,test\n",
        METRICS_FILE: small_metrics(shipped),
        CARD_FILE: b"# small\n\nIt is not good for 0.9 of the images.\n",
    }
    record = structs.replace(
        with_hashes(read_record(shipped), files),
        name="small",
        input=SPEC,
        audit=None,
    )
    record = with_member(record, backbone=BACKBONE, saliency_layer=layer)
    folder = tmp_path_factory.mktemp("models") / "small"
    folder.mkdir()
    files[GOLDEN_FILE] = golden_json(Model.assemble(record, files, folder)).encode()
    write_folder(folder, record, files)
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
