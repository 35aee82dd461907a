from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cadlib.data.dataset import open_dataset
from cadlib.data.duplicates import file_hashes, find_duplicates, together
from cadlib.errors import DatasetInvalid
from cadlib.images.synthetic import write_dataset
from tests.progress_check import check_progress

pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_dataset(tmp_path / "drawn", per_class=3, size_px=64)


def images_of(folder: Path) -> list[Path]:
    return sorted((folder / "ISIC_2019_Training_Input").iterdir())


def found_in(folder: Path):
    return find_duplicates(open_dataset(folder, verify=False), check_progress)


def test_a_set_without_duplicates_has_its_lesions_alone(folder):
    duplicates = found_in(folder)
    assert [len(rows) for rows in duplicates.groups["one lesion id"]] == [2] * 8
    assert duplicates.groups["identical files"] == ()
    assert not any(duplicates.contradictions(kind) for kind in duplicates.groups)


def test_identical_files_with_two_diagnoses_are_named(folder):
    paths = images_of(folder)
    paths[8].write_bytes(paths[2].read_bytes())  # the last of MEL and of BCC
    duplicates = found_in(folder)
    ((first, second),) = duplicates.contradictions("identical files")
    assert (first, second) == (2, 8)
    assert "ISIC_9000002 MEL, ISIC_9000008 BCC" in str(duplicates)


def test_a_resaved_image_is_a_near_duplicate_but_not_identical(folder):
    paths = images_of(folder)
    Image.open(paths[2]).save(paths[8], quality=70)
    duplicates = found_in(folder)
    assert duplicates.groups["identical files"] == ()
    assert [rows.tolist() for rows in duplicates.contradictions("near-duplicates")] == [[2, 8]]


def test_one_lesion_with_two_diagnoses_contradicts_itself(folder):
    path = folder / "ISIC_2019_Training_Metadata.csv"
    table = pd.read_csv(path, dtype=str)
    table.loc[3, "lesion_id"] = table.loc[0, "lesion_id"]
    table.to_csv(path, index=False)
    assert [rows.tolist() for rows in found_in(folder).contradictions("one lesion id")] == [
        [0, 1, 3]
    ]


def test_an_image_without_a_label_contradicts_nothing(folder):
    paths = images_of(folder)
    paths[8].write_bytes(paths[2].read_bytes())
    (folder / "ISIC_2019_Training_GroundTruth.csv").unlink()
    duplicates = found_in(folder)
    assert len(duplicates.groups["identical files"]) == 1
    assert duplicates.contradictions("identical files") == ()


def test_an_unreadable_image_is_left_out_and_counted(folder):
    victim = images_of(folder)[0]
    victim.write_bytes(victim.read_bytes()[:900])
    duplicates = found_in(folder)
    assert duplicates.unreadable == (victim.stem,)
    assert len(duplicates.table) == 23
    assert "23 images, 1 not readable" in str(duplicates)


def test_refuses_a_set_of_which_nothing_can_be_read(folder):
    dataset = open_dataset(folder, verify=False)
    for path in images_of(folder):
        path.write_bytes(b"")
    with pytest.raises(DatasetInvalid, match="but none can be"):
        find_duplicates(dataset, check_progress)


def test_rows_of_one_value_come_together_and_missing_values_do_not():
    names = pd.Series(["b", None, "a", "b", None, "c", "a", "b"], dtype="str")
    assert sorted(rows.tolist() for rows in together(names)) == [[0, 3, 7], [2, 6]]
    assert together(names[:0]) == ()


def test_the_hash_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hashes(pd.Series([str(tmp_path / "a")]))[0].startswith("ba7816bf8f01cfea")


def test_the_known_contradictions_of_isic_2019_are_found(isic2019_dataset):
    dataset = isic2019_dataset
    contradictions = [["ISIC_0067502", "ISIC_0067980"], ["ISIC_0069013", "ISIC_0071017"]]
    is_sampled = dataset.table["image"].isin([*np.ravel(contradictions), "ISIC_0057806"])
    is_sampled |= dataset.table.index % 1000 == 0
    duplicates = find_duplicates(replace(dataset, table=dataset.table[is_sampled]), check_progress)
    images = [
        duplicates.table["image"].iloc[rows].tolist()
        for rows in duplicates.contradictions("identical files")
    ]
    assert sorted(images) == contradictions
