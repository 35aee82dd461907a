import pandas as pd
import pytest

from cadlib.data.dataset import Dataset, DatasetReport
from cadlib.errors import DatasetInvalid, ModelInvalid
from cadlib.model.record import SPLIT_FILE, read_record
from cadlib.model.split import part_in_training, part_of_split, split_of_model


def dataset_of(images) -> Dataset:
    table = pd.DataFrame(
        {
            "image": pd.array(images, dtype="str"),
            "lesion_group": pd.array([None] * len(images), "str"),
        }
    )
    return Dataset("some of them", table, DatasetReport(len(table), len(table), len(table), ()))


def test_a_part_of_the_split_has_only_its_images(model_folder):
    record = read_record(model_folder)
    rows = split_of_model(model_folder, record)
    first_rows = rows.groupby("split").head(3)
    for part in ("train", "validation", "test"):
        part_dataset = part_of_split(
            model_folder, record, dataset_of([*first_rows["image"], "ISIC_9999999"]), part
        )
        assert sorted(part_dataset.table["image"]) == sorted(
            first_rows["image"][first_rows["split"] == part]
        )


def test_refuses_a_dataset_without_an_image_of_the_part(model_folder):
    with pytest.raises(
        DatasetInvalid,
        match="the test split of isic2019 in some of them but none of its 1 images is one",
    ):
        part_of_split(model_folder, read_record(model_folder), dataset_of(["ISIC_9999999"]), "test")


def test_refuses_a_split_that_was_changed_after_training(model_folder):
    path = model_folder / SPLIT_FILE
    record = read_record(model_folder)
    path.write_text(
        path.read_text(encoding="utf-8").replace("validation", "test", 1), encoding="utf-8"
    )
    with pytest.raises(ModelInvalid, match="the training images of the model are unknown"):
        split_of_model(model_folder, record)


def test_refuses_a_folder_without_its_split(model_folder):
    record = read_record(model_folder)
    (model_folder / SPLIT_FILE).unlink()
    with pytest.raises(ModelInvalid, match="but got none; restore the folder"):
        split_of_model(model_folder, record)


def test_counts_the_images_used_in_training(model_folder):
    record = read_record(model_folder)
    split = split_of_model(model_folder, record)
    named = {part: rows["image"].tolist() for part, rows in split.groupby("split")}
    mixed = [*named["train"][:3], *named["validation"][:2], *named["test"][:1]]
    role, flattered = part_in_training(model_folder, record, dataset_of(mixed))
    assert flattered
    assert role.startswith("3 of these images were used for training and 2 for choosing the model")
    role, flattered = part_in_training(
        model_folder, record, dataset_of([*named["test"][:5], "ISIC_9999999"])
    )
    assert not flattered
    assert role == (
        "No image ID matches the images used for training, calibration or thresholds. Renamed copies are not detected."
    )
    (model_folder / SPLIT_FILE).unlink()
    role, flattered = part_in_training(model_folder, record, dataset_of(mixed))
    assert not flattered
    assert "is not known" in role
