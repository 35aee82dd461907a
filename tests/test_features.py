from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cadlib import features
from cadlib.errors import DatasetInvalid, ModelInvalid
from cadlib.features import cached_features, split_features
from cadlib.neighbours import fingerprints
from cadlib.pixels import cached_pixels
from cadlib.record import SPLIT_FILE, read_record
from cadlib.taxonomy import CODES

PARTS = ["train", "train", "validation", "test"] * 8


def silent(what: str, done: int, total: int) -> None:
    assert what
    assert 0 < done <= total


def see(pixels):
    """Stand in for a model: features are the mean colour and its square, logits say nothing."""
    means = pixels.mean(axis=(1, 2)).astype(np.float32)
    return SimpleNamespace(
        features=np.concatenate([means, means**2], axis=1), logits=np.zeros((len(pixels), 8), np.float32)
    )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(drawn_model_folder):
    return drawn_model_folder


@pytest.fixture
def dataset(drawn_dataset):
    return drawn_dataset


def seen(folder, dataset, say=silent):
    return split_features(SimpleNamespace(record=read_record(folder), see=see), folder, dataset, say)


def test_a_row_is_what_the_model_sees_of_that_image(folder, dataset):
    found = seen(folder, dataset)
    pixels = np.array(cached_pixels(found.table, read_record(folder).input)[0:32])
    np.testing.assert_array_equal(found.features, see(pixels).features)
    np.testing.assert_array_equal(found.fingerprints, fingerprints(pixels))
    assert found.logits.shape == (32, 8)
    assert [CODES[label] for label in found.labels] == found.table["diagnosis"].tolist()


def test_groups_and_parts_are_those_of_the_split(folder, dataset):
    found = seen(folder, dataset)
    assert found.table["split"].tolist() == PARTS
    assert found.table["lesion_group"].tolist() == [str(number) for number in range(100, 132)]
    train = found.of("train")
    assert train.table["image"].tolist() == found.table["image"][np.array(PARTS) == "train"].tolist()
    np.testing.assert_array_equal(train.features, found.features[np.array(PARTS) == "train"])


def test_counts_what_is_done(folder, dataset):
    steps = []
    seen(folder, dataset, lambda *step: steps.append(step))
    assert steps[-1] == ("asking the model", 32, 32)
    assert ("caching pixels", 32, 32) in steps


def test_images_that_are_not_at_hand_are_counted(folder, dataset):
    assert seen(folder, replace(dataset, table=dataset.table.iloc[3:])).missing == 3


def test_refuses_data_without_a_part_of_the_split(folder, dataset):
    without = dataset.table[np.array(PARTS) != "validation"]
    with pytest.raises(DatasetInvalid, match="images of the validation split"):
        seen(folder, replace(dataset, table=without))


def test_refuses_images_without_a_diagnosis(folder, dataset):
    without = dataset.table.assign(diagnosis=dataset.table["diagnosis"].where(dataset.table.index != 5))
    with pytest.raises(DatasetInvalid, match="ISIC_9000005 has none"):
        seen(folder, replace(dataset, table=without))


def test_refuses_a_split_that_is_not_the_models(folder, dataset):
    (folder / SPLIT_FILE).write_text((folder / SPLIT_FILE).read_text().replace("validation", "test", 1))
    with pytest.raises(ModelInvalid, match="which images the model was trained on"):
        seen(folder, dataset)


def test_features_of_any_table_are_made_once(folder, dataset, monkeypatch):
    unlabelled = dataset.table.drop(columns=["diagnosis", "lesion_group"]).iloc[5:]
    model = SimpleNamespace(record=read_record(folder), see=see)
    found, logits = cached_features(model, unlabelled, silent)
    np.testing.assert_array_equal(found, see(cached_pixels(unlabelled, model.record.input)[0:27]).features)
    monkeypatch.setattr(features, "see_in_batches", None)  # whoever calls it now fails
    for again, before in zip(cached_features(model, unlabelled, silent), (found, logits), strict=True):
        np.testing.assert_array_equal(again, before)


@pytest.mark.parametrize("change", ["weights_sha256", "onnx_sha256", "images"])
def test_features_are_made_anew_for(folder, dataset, change):
    model = SimpleNamespace(record=read_record(folder), see=see)
    before, _ = cached_features(model, dataset.table, silent)
    if change == "images":
        assert len(cached_features(model, dataset.table.iloc[1:], silent)[0]) == len(before) - 1
        return
    other = SimpleNamespace(record=replace(model.record, **{change: "0" * 64}), see=lambda pixels: see(255 - pixels))
    assert not np.array_equal(cached_features(other, dataset.table, silent)[0], before)
