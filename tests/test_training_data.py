import csv
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cadlib.data.splits import read_split
from cadlib.data.subsets import Subset
from cadlib.errors import TrainingFailed
from cadlib.images.preprocess import InputSpec
from cadlib.training import data as training_data
from cadlib.training.data import (
    LEFT_OUT,
    BatchPlan,
    Crops,
    FoldPlan,
    SplitRequest,
    read_training_data,
)
from tests.partial_labels import change_labels

pytestmark = pytest.mark.usefixtures("empty_cache")

SPEC = InputSpec(32, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), symmetric=True)


def read(folder, say=lambda _: None, leave_out="", subset=None):
    request = SplitRequest(0, 0.2, 0.2, leave_out, subset)
    return read_training_data(folder, SPEC, request, say)


def read_planned(folder, fold_plan, seed=0, log=lambda _: None):
    request = SplitRequest(seed, 0.2, 0.2, fold_plan=fold_plan)
    return read_training_data(folder, SPEC, request, log)


def plan(first_step=0, rank=0, world_size=1, rows=50, epoch_images=None):
    batch_plan = BatchPlan(
        np.arange(rows),
        epoch_images=epoch_images,
        batch_size=8,
        epochs=3,
        seed=1,
        side_px=lambda epoch: 32 + epoch,
        rank=rank,
        world_size=world_size,
    )
    batch_plan.first_step = first_step
    return batch_plan


def test_every_image_has_its_pixels_label_and_split(synthetic_dataset, tmp_path):
    data = read(synthetic_dataset)
    assert data.pixels.shape == (96, 32, 32, 3)
    assert np.bincount(data.labels).tolist() == [12] * 8
    assert sum(len(data.rows(part)) for part in ("train", "validation", "test")) == 96
    (tmp_path / "split.csv").write_text(data.split_csv)
    split_table = read_split(tmp_path / "split.csv")
    assert split_table["split"].tolist() == data.parts.tolist()


def test_unlabelled_images_are_refused(synthetic_dataset, tmp_path):
    folder = tmp_path / "unlabelled"
    shutil.copytree(synthetic_dataset, folder)
    next(folder.glob("*GroundTruth.csv")).unlink()
    with pytest.raises(TrainingFailed, match="ground-truth CSV"):
        read(folder)


def test_images_without_a_diagnosis_are_left_out_and_counted(synthetic_dataset, monkeypatch):
    def change(labels):
        first = np.arange(len(labels)) % 12 == 0
        return labels.assign(diagnosis=labels["diagnosis"].mask(first))

    change_labels(monkeypatch, change)
    messages = []
    data = read(synthetic_dataset, say=messages.append)
    assert np.bincount(data.labels).tolist() == [11] * 8
    assert (
        "8 images without a diagnosis are left out, 8 of them labelled malignant or benign"
        in messages
    )


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


def test_reports_and_leaves_out_an_undecodable_image(synthetic_dataset, tmp_path):
    folder = shutil.copytree(synthetic_dataset, tmp_path / "spoilt")
    truncated = min((folder / "ISIC_2019_Training_Input").iterdir())
    truncated.write_bytes(truncated.read_bytes()[: int(0.6 * truncated.stat().st_size)])
    messages = []
    assert len(read(folder, messages.append).table) == 95
    assert any("1 images cannot be decoded" in text and truncated.stem in text for text in messages)


def test_a_rotated_copy_stays_in_the_same_split(synthetic_dataset, tmp_path):
    folder = shutil.copytree(synthetic_dataset, tmp_path / "turned")
    first, *_, last = sorted((folder / "ISIC_2019_Training_Input").iterdir())
    with Image.open(first) as picture:
        turned = picture.transpose(Image.Transpose.ROTATE_90)
    turned.save(last, quality=95)
    groups = read(folder).groups
    apart = read(synthetic_dataset).groups
    assert groups.iloc[0] == groups.iloc[-1]
    assert apart.iloc[0] != apart.iloc[-1]


def test_reports_too_many_images_to_compare(synthetic_dataset, monkeypatch):
    monkeypatch.setattr(training_data, "MOST_COMPARED", 95)
    messages = []
    read(synthetic_dataset, messages.append)
    assert any("96 images are too many to compare each with each" in line for line in messages)


def test_an_archive_that_is_left_out_is_in_no_batch_and_still_measured(synthetic_dataset):
    full = read(synthetic_dataset)
    without = read(synthetic_dataset, leave_out="HAM10000")
    of_it = (without.table["archive"] == "HAM10000").to_numpy()
    assert of_it[full.rows("train")].any()
    assert without.rows("train").tolist() == [row for row in full.rows("train") if not of_it[row]]
    assert without.rows(LEFT_OUT).tolist() == [row for row in full.rows("train") if of_it[row]]
    for part in ("validation", "test"):
        assert np.array_equal(without.rows(part), full.rows(part))
    assert without.split_sha256 == full.split_sha256
    batch_plan = BatchPlan(
        without.rows("train"),
        batch_size=8,
        epochs=3,
        seed=0,
        side_px=lambda _: 32,
        epoch_images=without.epoch_images,
    )
    rows_in_batches = {crop.row for batch in batch_plan for crop in batch}
    assert rows_in_batches == set(without.rows("train").tolist())


def test_leaving_an_archive_out_changes_no_number_of_steps(synthetic_dataset):
    full = read(synthetic_dataset)
    without = read(synthetic_dataset, leave_out="MSK")
    assert without.epoch_images == full.epoch_images == len(full.rows("train"))
    assert len(plan(rows=30, epoch_images=50)) == len(plan(rows=50))


def test_a_subset_alone_is_split_and_named(synthetic_dataset):
    images = [f"ISIC_{9_000_000 + number}" for number in range(96) if number % 12 < 6]
    subset = Subset("first half", "drawn", (*images, "ISIC_1"), "by number")
    messages = []
    data = read(synthetic_dataset, messages.append, subset=subset)
    assert data.table["image"].tolist() == images
    assert len(data.pixels) == len(data.parts) == 48
    assert [row["image"] for row in csv.DictReader(data.split_csv.splitlines())] == images
    assert data.name == f"drawn, subset first half ({subset.sha256[:16]})"
    assert "1  images of the subset that are not there: ISIC_1" in messages[0]


def write_column(path, column, values):
    """Write a CSV file of the images and one column."""
    lines = [f"image,{column}", *(f"{image},{value}" for image, value in values.items())]
    path.write_text("\n".join(lines))


def test_two_images_of_a_subset_that_a_third_outside_it_joins_stay_together(
    synthetic_dataset, tmp_path
):
    folder = Path(shutil.copytree(synthetic_dataset, tmp_path / "joined"))
    names = [f"ISIC_{9_000_000 + number}" for number in range(96)]
    facts = next(folder.glob("*Metadata.csv"))
    # The second image has the lesion of the first, and the group of the thirty-first.
    lesions = dict.fromkeys(names, "") | dict.fromkeys([names[0], names[1]], "shared")
    groups = dict.fromkeys(names, "") | dict.fromkeys([names[1], names[30]], "shared")
    write_column(facts, "lesion_id", lesions)
    write_column(folder / "sources.csv", "lesion_group", groups)
    images = tuple(name for name in names if name != names[1])
    without = Subset("without the link", "joined", images, "by hand")
    data = read(folder, subset=without)
    group = dict(zip(data.table["image"], data.groups, strict=True))
    assert group[names[0]] == group[names[30]]
    # In each of the other seven diagnoses, two images are rotated copies of each other.
    assert data.groups.nunique() == 95 - 1 - 7


def test_an_epoch_of_more_images_than_there_are_repeats_them_evenly():
    rows = [crop.row for batch in list(plan(rows=20, epoch_images=48))[:6] for crop in batch]
    assert sorted(rows[:20]) == sorted(rows[20:40]) == list(range(20))
    assert rows[:20] != rows[20:40]
    assert len(set(rows[40:])) == 8


def test_an_unknown_archive_is_refused_with_the_known_ones(synthetic_dataset):
    with pytest.raises(
        TrainingFailed, match="'PH2'; its labelled images are of BCN20000, HAM10000, MSK"
    ):
        read(synthetic_dataset, leave_out="PH2")


def test_leaving_out_an_archive_that_alone_has_a_class_is_refused(synthetic_dataset, tmp_path):
    folder = shutil.copytree(synthetic_dataset, tmp_path / "one_archive_a_class")
    truth = pd.read_csv(next(folder.glob("*GroundTruth.csv")))
    path = next(folder.glob("*Metadata.csv"))
    facts = pd.read_csv(path)
    lesions = [f"{'BCN' if scc else 'HAM'}_{number}" for number, scc in enumerate(truth["SCC"])]
    facts.assign(lesion_id=lesions).to_csv(path, index=False)
    read(folder)
    with pytest.raises(TrainingFailed, match=r"none of SCC \(train\).*--leave-out"):
        read(folder, leave_out="BCN20000")


def test_an_epoch_draws_every_image_at_most_once_and_the_next_in_another_order():
    batches = list(plan())
    epochs = [
        [crop.row for batch in batches[start : start + 6] for crop in batch] for start in (0, 6, 12)
    ]
    for epoch in epochs:
        assert len(set(epoch)) == 48
    assert epochs[0] != epochs[1]
    assert [batch[0].side_px for batch in batches[::6]] == [32, 33, 34]


def test_a_resumed_plan_goes_on_with_the_same_batches():
    batches = list(plan())
    for step in (1, 6, 11):
        assert list(plan(first_step=step)) == batches[step:]
        assert len(plan(first_step=step)) == 18 - step


def test_processes_share_each_batch_without_overlap():
    batches = list(plan())
    shares = [list(plan(rank=rank, world_size=2)) for rank in range(2)]
    for batch, *parts in zip(batches, *shares, strict=True):
        assert sorted(map(repr, batch)) == sorted(
            map(repr, [crop for part in parts for crop in part])
        )


@pytest.mark.parametrize(("batch_size", "world_size"), [(51, 1), (8, 3)])
def test_a_batch_size_that_cannot_be_is_refused(batch_size, world_size):
    with pytest.raises(TrainingFailed, match="batch size"):
        BatchPlan(
            np.arange(50),
            batch_size=batch_size,
            epochs=1,
            seed=0,
            side_px=lambda _: 32,
            world_size=world_size,
        )


def test_a_worker_gets_the_place_of_the_pixels_and_not_a_copy(synthetic_dataset):
    data = read(synthetic_dataset)
    crop = next(iter(plan()))[0]
    crops = Crops(data, 0.6)
    assert len(pickle.dumps(crops)) < data.pixels.nbytes / 20
    image, label, row = crops[crop]
    assert image.shape == (3, 32, 32)
    assert label == data.labels[crop.row]
    assert row == crop.row


@pytest.fixture
def existing_split(synthetic_dataset, tmp_path):
    path = tmp_path / "split.csv"
    path.write_text(read(synthetic_dataset).split_csv)
    return path


def test_folds_leave_the_test_images_alone_and_validate_every_other_image_once(
    synthetic_dataset, existing_split
):
    before = read_split(existing_split).set_index("image")
    validated = []
    for fold in range(3):
        plan = FoldPlan(existing_split, n_folds=3, fold=fold)
        data = read_planned(synthetic_dataset, plan)
        parts = data.parts.set_axis(data.table["image"])
        assert parts.index[parts == "test"].equals(before.index[before["split"] == "test"])
        assert data.groups.tolist() == before.loc[data.table["image"], "lesion_group"].tolist()
        validated += parts.index[parts == "validation"].tolist()
    assert sorted(validated) == sorted(before.index[before["split"] != "test"])


def test_without_folds_an_existing_split_is_followed_as_it_is(synthetic_dataset, existing_split):
    plan = FoldPlan(existing_split)
    data = read_planned(synthetic_dataset, plan, seed=9)
    assert data.split_csv == existing_split.read_text()


def test_reports_and_leaves_out_images_missing_in_the_split(synthetic_dataset, existing_split):
    lines = existing_split.read_text().splitlines(keepends=True)
    existing_split.write_text("".join(lines[:-1]))
    messages = []
    data = read_planned(synthetic_dataset, FoldPlan(existing_split), log=messages.append)
    assert len(data.table) == 95
    assert any("1 images are left out" in line for line in messages)


def test_a_split_of_other_images_is_refused(synthetic_dataset, tmp_path):
    other_split = tmp_path / "other.csv"
    other_split.write_text("image,lesion_group,split\nISIC_0,0,train\n")
    with pytest.raises(TrainingFailed, match="none of 96 is"):
        read_planned(synthetic_dataset, FoldPlan(other_split))
