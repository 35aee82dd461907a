import csv
import pickle
import shutil

import numpy as np
import pytest

from cadlib.errors import TrainingFailed
from cadlib.preprocess import InputSpec
from cadlib.splits import read_split
from cadlib.training_data import BatchPlan, Crops, read_training_data

SPEC = InputSpec(32, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))


def read(folder, say=lambda _: None):
    return read_training_data(folder, SPEC, 0, (0.2, 0.2), say)


def plan(first_step=0, rank=0, world_size=1):
    made = BatchPlan(
        np.arange(50),
        batch_size=8,
        epochs=3,
        seed=1,
        side_px=lambda epoch: 32 + epoch,
        rank=rank,
        world_size=world_size,
    )
    made.first_step = first_step
    return made


def test_every_image_has_its_pixels_label_and_split(synthetic_dataset, tmp_path):
    data = read(synthetic_dataset)
    assert data.pixels.shape == (96, 32, 32, 3)
    assert np.bincount(data.labels).tolist() == [12] * 8
    assert sum(len(data.rows(part)) for part in ("train", "validation", "test")) == 96
    (tmp_path / "split.csv").write_text(data.split_csv)
    written = read_split(tmp_path / "split.csv")
    assert written["split"].tolist() == data.parts.tolist()


def test_unlabelled_images_are_refused(synthetic_dataset, tmp_path):
    folder = tmp_path / "unlabelled"
    shutil.copytree(synthetic_dataset, folder)
    next(folder.glob("*GroundTruth.csv")).unlink()
    with pytest.raises(TrainingFailed, match="ground-truth CSV"):
        read(folder)


def test_data_without_a_class_is_refused_with_its_name(synthetic_dataset, tmp_path):
    folder = tmp_path / "no_df"
    shutil.copytree(synthetic_dataset, folder)
    path = next(folder.glob("*GroundTruth.csv"))
    with path.open() as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(row for row in rows if float(row["DF"]) == 0)
    with pytest.raises(TrainingFailed, match=r"DF \(train\), DF \(validation\)"):
        read(folder)


def test_an_image_that_cannot_be_decoded_is_left_out_and_said(synthetic_dataset, tmp_path):
    folder = shutil.copytree(synthetic_dataset, tmp_path / "spoilt")
    victim = min((folder / "ISIC_2019_Training_Input").iterdir())
    victim.write_bytes(victim.read_bytes()[: int(0.6 * victim.stat().st_size)])
    told = []
    assert len(read(folder, told.append).table) == 95
    assert any("1 images cannot be decoded" in text and victim.stem in text for text in told)


def test_an_epoch_draws_every_image_at_most_once_and_the_next_in_another_order():
    batches = list(plan())
    epochs = [[crop.row for batch in batches[start : start + 6] for crop in batch] for start in (0, 6, 12)]
    for epoch in epochs:
        assert len(set(epoch)) == 48
    assert epochs[0] != epochs[1]
    assert [batch[0].side_px for batch in batches[::6]] == [32, 33, 34]


def test_a_resumed_plan_goes_on_with_the_same_batches():
    whole = list(plan())
    for step in (1, 6, 11):
        assert list(plan(first_step=step)) == whole[step:]
        assert len(plan(first_step=step)) == 18 - step


def test_processes_share_each_batch_without_overlap():
    whole = list(plan())
    shares = [list(plan(rank=rank, world_size=2)) for rank in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(map(repr, batch)) == sorted(map(repr, [crop for part in parts for crop in part]))


@pytest.mark.parametrize(("batch_size", "world_size"), [(51, 1), (8, 3)])
def test_a_batch_size_that_cannot_be_is_refused(batch_size, world_size):
    with pytest.raises(TrainingFailed, match="batch size"):
        BatchPlan(np.arange(50), batch_size=batch_size, epochs=1, seed=0, side_px=lambda _: 32, world_size=world_size)


def test_a_worker_gets_the_place_of_the_pixels_and_not_a_copy(synthetic_dataset):
    data = read(synthetic_dataset)
    crop = next(iter(plan()))[0]
    crops = Crops(data)
    assert len(pickle.dumps(crops)) < data.pixels.nbytes / 20
    image, label = crops[crop]
    assert image.shape == (3, 32, 32)
    assert label == data.labels[crop.row]
