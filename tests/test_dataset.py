"""Joins images and CSV files: data that are used, reported or refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from cadlib.data.dataset import COLUMNS, Dataset, find_datasets, join_dataset, open_dataset
from cadlib.data.layouts.table_file import read_csv
from cadlib.errors import DatasetInvalid
from cadlib.images.synthetic import write_dataset
from cadlib.taxonomy import CODES

HEADER = f"image,{','.join(CODES)},UNK"
METADATA_HEADER = "image,age_approx,anatom_site_general,lesion_id,sex"


def label_row(image: str, *codes: str) -> str:
    return ",".join([image, *("1.0" if code in codes else "0.0" for code in (*CODES, "UNK"))])


def write_image(path: Path, width_px: int = 80, height_px: int = 64, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    grain = np.random.default_rng(len(path.name)).integers(
        0, 256, (height_px, width_px, 3), dtype=np.uint8
    )
    Image.fromarray(grain).save(path, **options)
    return path


class Folder:
    """A data set on disk, made of image names and lines of CSV."""

    def __init__(self, root: Path) -> None:
        self.images = root / "images"
        self.labels = root / "labels.csv"
        self.metadata = root / "metadata.csv"
        self.sources = root / "sources.csv"
        for name in ("ISIC_1.jpg", "ISIC_2.jpg", "ISIC_3.jpg"):
            write_image(self.images / name)
        self.write_labels(
            label_row("ISIC_1", "MEL"), label_row("ISIC_2", "NV"), label_row("ISIC_3", "UNK")
        )

    def write_labels(self, *rows: str, header: str = HEADER) -> None:
        self.labels.write_text("\n".join([header, *rows]), encoding="utf-8")

    def write_metadata(self, *rows: str, header: str = METADATA_HEADER) -> None:
        self.metadata.write_text("\n".join([header, *rows]), encoding="utf-8")

    def join(self, **options: bool) -> Dataset:
        paths = [
            path if path.exists() else None for path in (self.labels, self.metadata, self.sources)
        ]
        return join_dataset(self.images, *paths, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def ids(dataset: Dataset) -> list[str]:
    return dataset.table["image"].tolist()


def kinds(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {mismatch.kind: mismatch.examples for mismatch in dataset.report.mismatches}


def test_joins_images_labels_and_metadata_into_one_table_sorted_by_id(folder):
    folder.write_metadata(
        "ISIC_3,,,,", "ISIC_2,35,head/neck,BCN_7,male", "ISIC_1,60.0,palms/soles,HAM_1,female"
    )
    dataset = folder.join()
    table = dataset.table
    assert tuple(table.columns) == COLUMNS
    assert table.index.equals(pd.RangeIndex(3))
    assert ids(dataset) == ["ISIC_1", "ISIC_2", "ISIC_3"]
    assert table["diagnosis"].tolist() == ["MEL", "NV", "UNK"]
    assert table["age_approx"][:2].tolist() == [60.0, 35.0]
    assert table["lesion_id"][:2].tolist() == ["HAM_1", "BCN_7"]
    assert table["archive"][:2].tolist() == ["HAM10000", "BCN20000"]
    facts = ["age_approx", "sex", "anatom_site_general", "lesion_id", "archive"]
    assert table.loc[2, facts].isna().all()
    assert dataset.report.mismatches == ()


def test_the_table_has_the_file_and_the_size_of_each_image(folder):
    dataset = folder.join()
    table = dataset.table
    assert [Path(path).name for path in table["path"]] == ["ISIC_1.jpg", "ISIC_2.jpg", "ISIC_3.jpg"]
    assert table["width_px"].tolist() == [80] * 3
    assert table["height_px"].tolist() == [64] * 3
    assert (dataset.report.rows, dataset.report.images, dataset.report.usable) == (3, 3, 3)


@pytest.mark.parametrize("metadata", ["whole", "only ids and sex", "none"])
def test_the_types_of_the_columns_do_not_depend_on_what_is_given(folder, metadata):
    if metadata == "whole":
        folder.write_metadata("ISIC_1,60,palms/soles,HAM_1,female")
        folder.sources.write_text("image,archive,lesion_group\nISIC_1,MSK,g1\n")
    elif metadata == "only ids and sex":
        folder.write_metadata("ISIC_1,male", header="image,sex")
        folder.sources.write_text("image,lesion_group\nISIC_1,g1\n")
    numbers = {
        "malignant": "boolean",
        "age_approx": "Float64",
        "width_px": "Int64",
        "height_px": "Int64",
    }
    types = folder.join().table.dtypes.astype(str).to_dict()
    assert types == dict.fromkeys(COLUMNS, "str") | numbers


def test_an_id_may_end_in_downsampled_and_is_compared_exactly(folder):
    write_image(folder.images / "ISIC_4_downsampled.jpg")
    write_image(folder.images / "ISIC_5.jpg")
    folder.write_labels(label_row("ISIC_4_downsampled", "MEL"), label_row("isic_5", "NV"))
    assert ids(folder.join()) == ["ISIC_4_downsampled"]


def test_blanks_a_byte_order_mark_and_windows_line_ends_do_no_harm(folder):
    text = "\r\n".join(
        [HEADER.replace(",", " , "), label_row(" ISIC_1 ", "MEL").replace("1.0", " 1 ")]
    )
    folder.labels.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert folder.join().table["diagnosis"].tolist() == ["MEL"]


def test_reports_ids_that_only_some_of_the_parts_have(folder):
    folder.write_labels(
        label_row("ISIC_1", "MEL"), label_row("ISIC_2", "NV"), label_row("ISIC_8", "NV")
    )
    folder.write_metadata(
        "ISIC_1,60,,,male", "ISIC_3,60,,,male", "ISIC_8,5,,,male", "ISIC_9,5,,,male"
    )
    dataset = folder.join()
    assert ids(dataset) == ["ISIC_1", "ISIC_2"]
    assert dataset.report.rows == 5
    assert kinds(dataset) == {
        "rows without an image": ("ISIC_8", "ISIC_9"),
        "images without ground truth": ("ISIC_3",),
        "ground-truth rows without metadata": ("ISIC_2",),
        "metadata rows without ground truth": ("ISIC_3", "ISIC_9"),
    }


def test_without_a_ground_truth_images_are_kept_and_their_diagnosis_is_missing(folder):
    folder.labels.unlink()
    folder.write_metadata("ISIC_1,60,,,male")
    dataset = folder.join()
    assert ids(dataset) == ["ISIC_1", "ISIC_2", "ISIC_3"]
    assert dataset.table["diagnosis"].isna().all()
    assert kinds(dataset) == {
        "unlabelled images": ("ISIC_1", "ISIC_2", "ISIC_3"),
        "images without metadata": ("ISIC_2", "ISIC_3"),
    }


def test_leaves_out_and_reports_rows_that_name_no_or_two_diagnoses(folder):
    folder.write_labels(
        label_row("ISIC_1", "MEL"), label_row("ISIC_2"), label_row("ISIC_3", "MEL", "NV")
    )
    dataset = folder.join()
    assert ids(dataset) == ["ISIC_1"]
    expected = ("ISIC_2 (all 0)", "ISIC_3 (MEL 1 + NV 1)")
    assert kinds(dataset) == {"rows without exactly one diagnosis in labels.csv": expected}


@pytest.mark.parametrize("cells", ["0.5,0.5", "2,-1", "inf,0", "1,1"])
def test_a_row_of_anything_but_one_1_is_no_label(folder, cells):
    folder.write_labels("ISIC_1,1,0", f"ISIC_2,{cells}", header="image,MEL,NV")
    dataset = folder.join()
    assert ids(dataset) == ["ISIC_1"]
    assert dataset.report.count("rows without exactly one diagnosis") == 1


def test_leaves_out_and_reports_rows_with_cells_that_are_no_numbers(folder):
    text = label_row("ISIC_2", "MEL").replace("1.0", "maybe")
    short = "ISIC_3,1.0" + ",0.0" * 7
    folder.write_labels(label_row("ISIC_1", "MEL"), text, short)
    dataset = folder.join()
    assert ids(dataset) == ["ISIC_1"]
    assert kinds(dataset) == {
        "rows shorter than the header in labels.csv": ("ISIC_3",),
        "cells that are not numbers in labels.csv": ("ISIC_2 MEL 'maybe'", "ISIC_3 UNK empty"),
    }


def test_reports_missing_and_unknown_columns_and_rows_without_an_id(folder):
    folder.write_labels("ISIC_1,1,0,a", ",0,1,b", header="image,MEL,NV,Remark")
    folder.write_metadata("ISIC_1,female", header="image,sex")
    assert kinds(folder.join()) == {
        "missing columns in labels.csv": ("BCC", "AK", "BKL", "DF", "VASC"),
        "unknown columns in labels.csv": ("Remark",),
        "rows without an id in labels.csv": ("row 2",),
        "missing columns in metadata.csv": ("age_approx", "anatom_site_general", "lesion_id"),
        "images without ground truth": ("ISIC_2", "ISIC_3"),
    }


def test_equal_rows_of_an_id_count_once_and_of_contradicting_ones_what_they_agree_on(folder):
    same_row = label_row("ISIC_1", "MEL").replace(".0", "")
    folder.write_labels(
        label_row("ISIC_1", "MEL"),
        same_row,
        same_row,
        label_row("ISIC_2", "NV"),
        label_row("ISIC_2", "MEL"),
    )
    folder.write_metadata("ISIC_1,60,,HAM_1,male", "ISIC_1,65,,HAM_1,male", "ISIC_2,60,,,male")
    dataset = folder.join()
    assert ids(dataset) == ["ISIC_1"]
    assert dataset.table.loc[0, ["lesion_id", "sex"]].tolist() == ["HAM_1", "male"]
    assert pd.isna(dataset.table.loc[0, "age_approx"])
    assert kinds(dataset) == {
        "repeated ids in labels.csv": ("ISIC_1",),
        "contradicting rows for one id in labels.csv": ("ISIC_2",),
        "contradicting rows for one id in metadata.csv": ("ISIC_1",),
        "images without ground truth": ("ISIC_3",),
    }


def test_prefers_the_first_known_suffix_of_an_id(folder):
    for name in ("ISIC_1.png", "ISIC_1.JPEG"):
        write_image(folder.images / name)
    dataset = folder.join()
    assert dataset.table["path"][0].endswith("ISIC_1.jpg")
    assert kinds(dataset) == {"several files for one id": ("ISIC_1.JPEG", "ISIC_1.png")}


def test_a_file_name_that_is_not_utf_8_is_reported_and_left_out(folder):
    shutil.copy(folder.images / "ISIC_1.jpg", os.fsencode(folder.images) + b"/ISIC_\xff.jpg")
    assert kinds(folder.join()) == {"file names that are not UTF-8": ("ISIC_?.jpg",)}


def test_other_files_are_reported_and_hidden_ones_and_folders_ignored(folder):
    (folder.images / "LICENSE.txt").touch()
    (folder.images / "._ISIC_1.jpg").touch()
    (folder.images / "ISIC_7.jpg").mkdir()
    dataset = folder.join()
    assert dataset.report.images == 3
    assert kinds(dataset) == {"files that are no image": ("LICENSE.txt",)}


def test_a_truncated_file_is_found_by_decoding_and_not_by_its_header(folder):
    path = folder.images / "ISIC_2.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    checked = folder.join()
    quick = folder.join(verify=False)
    assert ids(checked) == ["ISIC_1", "ISIC_3"]
    assert "ISIC_2.jpg" in kinds(checked)["unreadable images"][0]
    assert ids(quick) == ["ISIC_1", "ISIC_2", "ISIC_3"]


@pytest.mark.parametrize("verify", [True, False])
def test_reports_files_that_are_no_picture_empty_or_too_small(folder, verify):
    (folder.images / "ISIC_1.jpg").write_text("no picture")
    (folder.images / "ISIC_2.jpg").write_bytes(b"")
    write_image(folder.images / "ISIC_4.png", 10, 10)
    folder.write_labels(*(label_row(f"ISIC_{number}", "NV") for number in (1, 2, 3, 4)))
    dataset = folder.join(verify=verify)
    assert ids(dataset) == ["ISIC_3"]
    reasons = kinds(dataset)["unreadable images"]
    assert [reason.split()[0] for reason in reasons] == ["ISIC_1.jpg", "ISIC_2.jpg", "ISIC_4.png"]


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_the_size_is_that_of_the_upright_image(folder, suffix, verify):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    (folder.images / "ISIC_1.jpg").unlink()
    write_image(folder.images / f"ISIC_1{suffix}", 100, 70, exif=exif)
    table = folder.join(verify=verify).table
    assert (table["width_px"][0], table["height_px"][0]) == (70, 100)


def test_values_outside_the_vocabulary_are_reported_and_taken_as_missing(folder):
    folder.write_metadata("ISIC_1,old,arm,,m", "ISIC_2,-5,head/neck,,male", "ISIC_3,121,,,x")
    dataset = folder.join()
    assert kinds(dataset) == {
        "ages outside 0 to 120 years in metadata.csv": (
            "ISIC_1 'old'",
            "ISIC_2 '-5'",
            "ISIC_3 '121'",
        ),
        "sexes that are neither female nor male in metadata.csv": ("ISIC_3 'x'",),
        "sites that are none of ISIC 2019 in metadata.csv": ("ISIC_1 'arm'",),
    }
    assert dataset.table["age_approx"].isna().all()
    assert dataset.table["sex"].fillna("-").tolist() == ["male", "male", "-"]
    assert dataset.table["anatom_site_general"].fillna("-").tolist() == ["-", "head/neck", "-"]


def test_the_archive_comes_from_sources_and_else_from_the_lesion_id(folder):
    folder.write_metadata("ISIC_1,,,HAM_1,", "ISIC_2,,,MSK4_2,", "ISIC_3,,,,")
    folder.sources.write_text(
        "image,archive,lesion_group,width_px\nISIC_1,Clinic,g1,9\nISIC_3,MSK/UDA/SONIC (no lesion_id),,9\n"
    )
    dataset = folder.join()
    assert dataset.table["archive"].tolist() == ["Clinic", "MSK", "MSK"]
    assert dataset.table["lesion_group"].fillna("-").tolist() == ["g1", "-", "-"]
    assert kinds(dataset) == {"images without a source": ("ISIC_2",)}


def test_the_report_prints_counts_advice_and_at_most_five_examples(folder):
    absent = [label_row(f"ISIC_{number}", "NV") for number in range(1000, 2500)]
    folder.write_labels(label_row("ISIC_1", "MEL"), *absent)
    report = folder.join().report
    text = str(report)
    assert report.count("rows without an image") == 1500
    assert (
        "1,500  rows without an image: ISIC_1000; ISIC_1001; ISIC_1002; ISIC_1003; ISIC_1004; …\n"
        in text
    )
    assert "Add the missing images" in text
    assert "1  usable images" in text
    assert report.count("unknown sexes") == 0


def test_reports_progress_for_every_image(folder):
    calls: list[tuple[int, int]] = []
    join_dataset(
        folder.images, folder.labels, progress=lambda _, done, total: calls.append((done, total))
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_refuses_a_set_without_usable_images_and_lists_the_mismatches(folder):
    folder.write_labels(label_row("ISIC_9.jpg", "MEL"))
    with pytest.raises(
        DatasetInvalid, match=r"none is left:[\s\S]*1  rows without an image: ISIC_9"
    ):
        folder.join()


def test_refuses_a_folder_that_is_missing_a_file_or_without_images(folder, tmp_path):
    (tmp_path / "none").mkdir()
    for path in (tmp_path / "missing", folder.labels, tmp_path / "none"):
        with pytest.raises(DatasetInvalid, match=r"Expected .*images.* but "):
            join_dataset(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be opened"),
        (b"", "the file is empty"),
        (HEADER.encode(), "only a header came"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "Save the table as"),
        (b'image,MEL\nISIC_1,"1\n', "Save the table as"),
        (b"name;MEL\nISIC_1;1\n", "no column names the images; its columns: name, MEL"),
        (
            b"image,age\nISIC_1,50\n",
            "Expected columns for diagnosis in .* but its columns are: image, age",
        ),
        (b"image,MEL\nISIC_1,1,0\n", "as long as its header"),
        (b"image,MEL\nISIC_1,1\nISIC_2,1,0\n", "Save the table as"),
    ],
)
def test_refuses_a_ground_truth_that_is_no_table_of_labels(folder, content, message):
    folder.labels.unlink()
    if content is not None:
        folder.labels.write_bytes(content)
    with pytest.raises(DatasetInvalid, match=message):
        join_dataset(folder.images, folder.labels)


def test_refuses_a_folder_in_place_of_a_csv_file(folder):
    with pytest.raises(DatasetInvalid, match="cannot be opened"):
        read_csv(folder.images, ("MEL",))


def isic_folder(root: Path, name: str = "ISIC_2019_Training") -> Path:
    write_image(root / f"{name}_Input" / "ISIC_1.jpg")
    (root / f"{name}_GroundTruth.csv").write_text(f"{HEADER}\n{label_row('ISIC_1', 'DF')}\n")
    (root / f"{name}_Metadata.csv").write_text(f"{METADATA_HEADER}\nISIC_1,5,,,male\n")
    return root


def test_opens_a_folder_of_the_official_layout_by_its_folder_alone(tmp_path):
    (isic_folder(tmp_path / "isic") / "sources.csv").write_text(
        "image,archive,lesion_group\nISIC_1,MSK,g1\n"
    )
    dataset = open_dataset(tmp_path / "isic")
    assert dataset.name == "isic"
    assert dataset.table.loc[0, ["diagnosis", "sex", "lesion_group"]].tolist() == [
        "DF",
        "male",
        "g1",
    ]
    assert dataset.report.mismatches == ()


def test_opens_the_training_set_of_a_folder_with_several(tmp_path):
    isic_folder(tmp_path, "ISIC_2018_Test")
    isic_folder(tmp_path)
    assert "ISIC_2019_Training_Input" in open_dataset(tmp_path).table["path"][0]


def test_takes_the_only_csv_of_a_kind_and_refuses_to_choose_between_two(tmp_path):
    labels = isic_folder(tmp_path) / "ISIC_2019_Training_GroundTruth.csv"
    labels.rename(tmp_path / "my_GroundTruth.csv")
    assert open_dataset(tmp_path).table["diagnosis"].tolist() == ["DF"]
    (tmp_path / "other_GroundTruth.csv").touch()
    with pytest.raises(
        DatasetInvalid, match=r"ISIC_2019_Training_GroundTruth\.csv, but found: my_.*other_"
    ):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_refuses_to_open_a_folder_without_an_input_folder(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetInvalid, match="Expected a folder ISIC_2019_Training_Input"):
        open_dataset(tmp_path / name)


def test_finds_datasets_up_to_two_levels_down(tmp_path):
    for below in ("a", "b/c", "b/d/too_deep", ".hidden"):
        isic_folder(tmp_path / below)
    assert find_datasets(tmp_path) == [tmp_path / "a", tmp_path / "b" / "c"]
    assert find_datasets(tmp_path / "a") == [tmp_path / "a"]
    assert find_datasets(tmp_path / "missing") == []


def test_the_synthetic_dataset_opens_without_a_mismatch(tmp_path):
    dataset = open_dataset(write_dataset(tmp_path / "synthetic", per_class=1, size_px=96))
    assert sorted(dataset.table["diagnosis"]) == sorted(CODES)
    assert dataset.report.mismatches == ()


def test_the_real_set_reports_the_rows_without_an_image_and_nothing_else(
    data_dir, isic2019_dataset
):
    folder = data_dir / "isic2019"
    dataset = isic2019_dataset
    folders = [path for path in (folder, data_dir / "uploads") if path.is_dir()]
    assert find_datasets(data_dir) == folders
    assert dataset.report.rows == 25_331
    assert dataset.report.images == 24_141
    assert dataset.report.usable == 24_141
    assert {f.kind: f.count for f in dataset.report.mismatches} == {"rows without an image": 1190}
    assert dataset.table["diagnosis"].value_counts()[["NV", "DF"]].tolist() == [12_463, 226]
    archives = dataset.table["archive"].value_counts().to_dict()
    assert archives == {"BCN20000": 11_228, "HAM10000": 10_010, "MSK": 2903}
