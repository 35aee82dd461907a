"""Reads data sets with other layouts than ISIC 2019: identified by their columns, joined into the same table."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cadlib.data.dataset import COLUMNS, Dataset, find_datasets, open_dataset
from cadlib.data.download.sample import TERMS
from cadlib.data.layouts.terms import ARCHIVE_SITES, DIAGNOSES_BY_WORD, SEXES_BY_WORD, SITES_BY_WORD
from cadlib.errors import DatasetInvalid
from cadlib.images.patient import COARSE_SITES, SEXES, SITES
from cadlib.images.synthetic import write_dataset
from cadlib.taxonomy import CODES, ISIC_2018, UNKNOWN

HAM_HEADER = "lesion_id,image_id,dx,dx_type,age,sex,localization"
ISIC_2020_HEADER = (
    "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,"
    "diagnosis,benign_malignant,target"
)


class DatasetFolder:
    """A folder of drawn lesions, one of each diagnosis, in any layout: `codes` has the true diagnosis of each id."""

    def __init__(self, root: Path) -> None:
        folder = write_dataset(root / "drawn", per_class=1, size_px=64)
        self.files = sorted((folder / "ISIC_2019_Training_Input").iterdir())
        self.codes = {path.stem: code for path, code in zip(self.files, CODES, strict=True)}
        self.root = root / "set"
        self.root.mkdir()

    def image(self, number: int, below: str, name: str | None = None) -> Path:
        path = self.root / below / (name or self.files[number].name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(self.files[number], path))

    def images(self, below: str, numbers: range = range(8)) -> None:
        for number in numbers:
            self.image(number, below)

    def table(self, name: str, header: str, *rows: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([header, *rows]), encoding="utf-8")
        return path

    def one_hot(self, name: str, codes: tuple[str, ...], labels: dict[str, str]) -> Path:
        rows = [
            f"{image},{','.join('1.0' if code == own else '0.0' for code in codes)}"
            for image, own in labels.items()
        ]
        return self.table(name, f"image,{','.join(codes)}", *rows)


@pytest.fixture
def layout(tmp_path: Path) -> DatasetFolder:
    return DatasetFolder(tmp_path)


def labels(dataset: Dataset) -> dict[str, str | None]:
    return dict(
        zip(
            dataset.table["image"],
            dataset.table["diagnosis"].astype("object").where(pd.notna, None),
            strict=True,
        )
    )


def kinds(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {mismatch.kind: mismatch.examples for mismatch in dataset.report.mismatches}


def row(dataset: Dataset, image: str) -> dict[str, object]:
    values = dataset.table.set_index("image").loc[image]
    return {column: None if pd.isna(value) else value for column, value in values.items()}


def types(dataset: Dataset) -> dict[str, str]:
    return dataset.table.dtypes.astype(str).to_dict()


SITES_OF_HAM = {
    "back": "posterior torso",
    "trunk": "torso",
    "face": "head/neck",
    "unknown": None,
    "foot": "lower extremity",
    "acral": "palms/soles",
    "chest": "anterior torso",
}
"""Site in HAM10000 to the site in ISIC 2019."""


@pytest.fixture
def ham10000(layout) -> DatasetFolder:
    """Return a folder with the layout of HAM10000: a lesion of each of its seven diagnoses."""
    dx = {code: code.lower() for code in CODES} | {"AK": "akiec"}
    layout.images("HAM10000_images_part_1", range(4))
    layout.images("HAM10000_images_part_2", range(4, 7))
    rows = []
    for number, site in enumerate(SITES_OF_HAM):
        image, code = list(layout.codes.items())[number]
        sex = "male" if number else "unknown"
        lesion = f"HAM_000000{number // 2}"
        rows.append(f"{lesion},{image},{dx[code]},histo,{50 + number}.0,{sex},{site}")
    layout.table("HAM10000_metadata.csv", HAM_HEADER, *rows)
    layout.table("hmnist_8_8_L.csv", "pixel0000,pixel0001,label", "1,2,3")
    return layout


def test_reads_the_facts_of_ham10000(ham10000):
    dataset = open_dataset(ham10000.root)
    sites = [None if pd.isna(site) else site for site in dataset.table["anatom_site_general"]]
    assert sites == list(SITES_OF_HAM.values())
    first = row(dataset, "ISIC_9000000")
    second = row(dataset, "ISIC_9000001")
    assert (first["age_approx"], first["sex"], first["lesion_id"]) == (50.0, None, "HAM_0000000")
    assert (second["sex"], second["lesion_group"]) == ("male", None)


def test_opens_ham10000_with_its_images_in_two_folders(ham10000):
    dataset = open_dataset(ham10000.root)
    assert labels(dataset) == dict(list(ham10000.codes.items())[:7])
    assert tuple(dataset.table.columns) == COLUMNS
    assert dataset.table["archive"].unique().tolist() == ["HAM10000"]
    unused = "no column names the images; its columns: pixel0000, pixel0001, label"
    assert kinds(dataset) == {
        "tables that are not used": (f"hmnist_8_8_L.csv ({unused})",),
        "AKIEC taken as AK in HAM10000_metadata.csv": ("ISIC_9000003",),
    }
    assert (dataset.report.rows, dataset.report.images, dataset.report.usable) == (7, 7, 7)


@pytest.mark.parametrize("unpacked", [True, False])
def test_opens_isic_2018_by_its_seven_columns(layout, unpacked):
    name = "ISIC2018_Task3_Training"
    codes = dict(list(layout.codes.items())[:7])
    seven = {image: code.replace("AK", "AKIEC") for image, code in codes.items()}
    layout.images(f"{name}_Input", range(7))
    truth = f"{name}_GroundTruth.csv"
    groupings = f"{name}_LesionGroupings.csv"
    folder = f"{name}_GroundTruth/" if unpacked else ""
    layout.one_hot(folder + truth, tuple(seven.values()), seven)
    lesions = [f"HAM_{number // 2}" for number in range(7)]
    rows = [f"{image},{lesion},histo" for image, lesion in zip(codes, lesions, strict=True)]
    layout.table(groupings, "image,lesion_id,diagnosis_confirm_type", *rows)
    dataset = open_dataset(layout.root)
    assert labels(dataset) == codes
    assert dataset.table["lesion_id"].tolist() == lesions
    assert kinds(dataset) == {f"AKIEC taken as AK in {truth}": ("ISIC_9000003",)}
    assert set(dataset.table["archive"]) == {"HAM10000"}


def test_opens_isic_2020_with_other_diagnoses_as_missing(layout):
    layout.images("jpeg/train")
    code_of_term = {
        "melanoma": "MEL",
        "nevus": "NV",
        "seborrheic keratosis": "BKL",
        "lentigo NOS": "BKL",
        "solar lentigo": "BKL",
        "lichenoid keratosis": "BKL",
        "unknown": None,
        "cafe-au-lait macule": None,
    }
    rows = [
        f"{image},IP_{n % 3},male,45.0,torso,{dx},{'malignant,1' if dx == 'melanoma' else 'benign,0'}"
        for n, (image, dx) in enumerate(zip(layout.codes, code_of_term, strict=True))
    ]
    layout.table("train.csv", ISIC_2020_HEADER, *rows)
    layout.table(
        "test.csv",
        ISIC_2020_HEADER.partition(",diagnosis")[0],
        "ISIC_0052060,IP_9,male,70.0,head/neck",
    )
    dataset = open_dataset(layout.root)
    assert list(labels(dataset).values()) == list(code_of_term.values())
    assert dataset.table["lesion_group"].tolist() == [f"IP_{n % 3}" for n in range(8)]
    assert (dataset.table["anatom_site_general"] == "torso").all()
    assert kinds(dataset) == {
        "tables that are not used": ("test.csv (it has no labels; train.csv has them)",),
        "diagnoses that are none of the eight in train.csv": (
            "ISIC_9000007 'cafe-au-lait macule'",
        ),
        "images with only benign or malignant in train.csv": ("ISIC_9000006", "ISIC_9000007"),
    }


def test_opens_a_download_of_the_isic_archive_by_the_third_level_of_its_diagnoses(layout):
    layout.images("", range(4))
    levels = ",".join(f"diagnosis_{level}" for level in range(1, 6))
    layout.table(
        "metadata.csv",
        f"isic_id,attribution,copyright_license,age_approx,anatom_site_general,{levels},image_type,lesion_id,sex",
        'ISIC_9000000,A,CC-0,50,head/neck,Malignant,"Malignant melanocytic (Melanoma)","Melanoma, NOS",,,,IL_1,male',
        "ISIC_9000001,A,CC-0,,,Benign,Benign melanocytic proliferations,Nevus,,,dermoscopic,IL_2,female",
        "ISIC_9000002,A,CC-0,,,Malignant,Malignant epidermal proliferations,Solar or actinic keratosis,,,,,",
        "ISIC_9000003,A,CC-0,,,Benign,,,,,,,",
    )
    dataset = open_dataset(layout.root)
    assert list(labels(dataset).values()) == ["MEL", "NV", "AK", None]
    assert dataset.table["lesion_id"].fillna("-").tolist() == ["IL_1", "IL_2", "-", "-"]
    assert kinds(dataset) == {
        "images with only benign or malignant in metadata.csv": ("ISIC_9000003",)
    }


def test_a_challenge_folder_may_hold_the_table_of_isic_2020(layout):
    layout.images("ISIC_2020_Training_Input", range(2))
    rows = (
        "ISIC_9000000,IP_1,male,45.0,head/neck,melanoma,malignant,1",
        "ISIC_9000001,IP_1,,,,nevus,benign,0",
    )
    layout.table("ISIC_2020_Training_GroundTruth.csv", ISIC_2020_HEADER, *rows)
    dataset = open_dataset(layout.root)
    assert list(labels(dataset).values()) == ["MEL", "NV"]
    assert dataset.report.mismatches == ()


@pytest.mark.parametrize(
    "column",
    ["image", "image_id", "image_name", "isic_id", "filename", "File", "path", "File Name"],
)
def test_opens_a_folder_of_images_with_a_table_whatever_names_them(layout, column):
    layout.images("", range(3))
    layout.table(
        "mine.csv",
        f"{column},Diagnosis,Age,Sex,Site,Lesion,Source",
        "ISIC_9000000.jpg,Melanoma,61,F,Upper Extremity,l1,MSK-4",
        "pictures/ISIC_9000001.jpg,nv,unknown,male,,,Clinic",
        "C:\\data\\ISIC_9000002.JPG,UNK,,,,,",
    )
    dataset = open_dataset(layout.root)
    assert labels(dataset) == {"ISIC_9000000": "MEL", "ISIC_9000001": "NV", "ISIC_9000002": "UNK"}
    facts = row(dataset, "ISIC_9000000")
    names = ("age_approx", "sex", "anatom_site_general", "lesion_id", "archive")
    assert [facts[name] for name in names] == [61.0, "female", "upper extremity", "l1", "MSK"]
    assert [row(dataset, "ISIC_9000001")[name] for name in names] == [
        None,
        "male",
        None,
        None,
        "Clinic",
    ]
    assert types(dataset) == dict.fromkeys(COLUMNS, "str") | {
        "malignant": "boolean",
        "age_approx": "Float64",
        "width_px": "Int64",
        "height_px": "Int64",
    }
    assert dataset.report.mismatches == ()


def test_a_table_may_have_only_image_names(layout):
    layout.images("pictures", range(2))
    layout.table("mine.csv", "image,sex", "ISIC_9000000,female", "ISIC_9,male")
    dataset = open_dataset(layout.root)
    assert list(labels(dataset).values()) == [None, None]
    assert types(dataset) == dict.fromkeys(COLUMNS, "str") | {
        "malignant": "boolean",
        "age_approx": "Float64",
        "width_px": "Int64",
        "height_px": "Int64",
    }
    assert kinds(dataset) == {
        "rows without an image": ("ISIC_9",),
        "unlabelled images": ("ISIC_9000000", "ISIC_9000001"),
        "images without metadata": ("ISIC_9000001",),
    }


def test_reports_invalid_values_and_reads_them_as_missing(layout):
    layout.images("", range(5))
    layout.table(
        "mine.csv",
        "image,diagnosis,age,sex,site,remark",
        "ISIC_9000000,wart,old,x,elbow,?",
        "ISIC_9000001,NV,130,male,back,",
        "ISIC_9000001,NV,130,male,face,",
        "ISIC_9000002,,40,female,neck,",
        ",NV,40,,,",
        "ISIC_9000007,NV,40,,,",
    )
    dataset = open_dataset(layout.root)
    assert labels(dataset) == {"ISIC_9000000": None, "ISIC_9000001": "NV", "ISIC_9000002": None}
    for image in ("ISIC_9000000", "ISIC_9000001"):
        assert (
            row(dataset, image)["age_approx"] is row(dataset, image)["anatom_site_general"] is None
        )
    assert kinds(dataset) == {
        "unknown columns in mine.csv": ("remark",),
        "rows without an id in mine.csv": ("row 5",),
        "diagnoses that are none of the eight in mine.csv": ("ISIC_9000000 'wart'",),
        "sexes that are neither female nor male in mine.csv": ("ISIC_9000000 'x'",),
        "sites that are none of ISIC 2019 in mine.csv": ("ISIC_9000000 'elbow'",),
        "ages outside 0 to 120 years in mine.csv": (
            "ISIC_9000000 'old'",
            "ISIC_9000001 '130'",
            "ISIC_9000001 '130'",
        ),
        "contradicting rows for one id in mine.csv": ("ISIC_9000001",),
        "images without a diagnosis in mine.csv": ("ISIC_9000000", "ISIC_9000002"),
        "rows without an image": ("ISIC_9000007",),
        "images without ground truth": ("ISIC_9000003", "ISIC_9000004"),
    }


def test_distinguishes_one_name_in_two_folders_by_path(layout):
    layout.image(0, "mel", "1.jpg")
    layout.image(1, "nv", "1.jpg")
    layout.image(2, "nv", "2.jpg")
    layout.table(
        "mine.csv", "path,dx", "/elsewhere/set/mel/1.jpg,mel", "nv/1.jpg,nv", "2,nv", "1,bcc"
    )
    dataset = open_dataset(layout.root)
    assert labels(dataset) == {"2": "NV", "mel/1": "MEL", "nv/1": "NV"}
    assert kinds(dataset) == {
        "one file name in several folders": ("1",),
        "rows without an image": ("1",),
    }


def test_identical_files_in_two_folders_are_one_image(layout, monkeypatch):
    for below in ("HAM10000_images_part_1", "ham10000_images_part_1"):
        layout.images(below, range(2))
    layout.table("HAM10000_metadata.csv", "image_id,dx", "ISIC_9000000,mel", "ISIC_9000001,nv")
    monkeypatch.chdir(layout.root.parent)
    dataset = open_dataset(Path(layout.root.name))
    assert labels(dataset) == {"ISIC_9000000": "MEL", "ISIC_9000001": "NV"}
    assert {Path(path).parent.name for path in dataset.table["path"]} == {"HAM10000_images_part_1"}
    assert kinds(dataset) == {"several files for one id": ("ISIC_9000000.jpg", "ISIC_9000001.jpg")}


def test_a_ground_truth_of_isic_beside_plain_images_is_joined_with_the_one_table_of_facts(layout):
    layout.images("pictures")
    layout.one_hot("truth.csv", (*CODES, UNKNOWN), layout.codes)
    layout.table("facts.csv", "image_id,age,localization", "ISIC_9000000,60,ear")
    dataset = open_dataset(layout.root)
    assert labels(dataset) == layout.codes
    assert row(dataset, "ISIC_9000000")["anatom_site_general"] == "head/neck"
    assert set(kinds(dataset)) == {"ground-truth rows without metadata"}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"a.csv": "image,filename,dx"},
            r"one column of .*a\.csv for image \(image, image_id, .*but found: image, filename",
        ),
        (
            {"a.csv": "image,dx,diagnosis"},
            r"one column of .*a\.csv for diagnosis .* but found: diagnosis, dx\. Keep",
        ),
        ({"a.csv": "image,age,age_approx"}, r"for age_approx .* but found: age_approx, age\. Keep"),
        (
            {"a.csv": "image,dx", "b.csv": "image,label"},
            r"one CSV file that names images .*a\.csv \(image, dx\); b\.csv",
        ),
        ({"a.csv": "image,MEL,NV", "b.csv": "image,label"}, r"one CSV file that names images"),
        ({"a.csv": "image,age", "b.csv": "image,sex"}, r"one CSV file that names images"),
        (
            {"a.csv": "name,dx"},
            r"a column that names them \(image, image_id, .*but there is no such file",
        ),
        ({}, r"Expected a folder ISIC_2019_Training_Input .*but there is no such file"),
    ],
)
def test_refuses_an_ambiguous_value_and_quotes_it(layout, tables, message):
    layout.images("", range(1))
    for name, header in tables.items():
        layout.table(name, header, *[",".join("x" * len(header.split(",")))])
    with pytest.raises(DatasetInvalid, match=message):
        open_dataset(layout.root)


def test_refuses_a_table_without_images(layout):
    layout.table("mine.csv", "image,dx", "a,nv")
    with pytest.raises(DatasetInvalid, match="but there is no image"):
        open_dataset(layout.root)
    layout.images("", range(1))
    with pytest.raises(DatasetInvalid, match=r"none is left:[\s\S]*rows without an image: a"):
        open_dataset(layout.root)


def test_finds_every_layout_and_no_folder_of_other_files(layout):
    for below, header in {
        "ham": HAM_HEADER,
        "isic 2020": ISIC_2020_HEADER,
        "own": "File Name,Age",
        "no": "name,dx",
    }.items():
        layout.images(f"{below}/a/b", range(1))
        layout.table(f"{below}/a.csv", header)
    layout.images("alone", range(1))
    layout.table("empty/a.csv", "image,dx")
    layout.images("deep/a/b/c", range(1))
    layout.table("deep/a.csv", "image,dx")
    assert find_datasets(layout.root) == [
        layout.root / below for below in ("ham", "isic 2020", "own")
    ]


def test_a_table_above_other_data_sets_does_not_hide_them(layout):
    layout.images("a/ISIC_2019_Training_Input", range(1))
    layout.images("b/pictures", range(1))
    layout.table("b/b.csv", "image,dx")
    layout.table("list.csv", "path,size")
    assert find_datasets(layout.root) == [layout.root / "a", layout.root / "b"]
    layout.images("c", range(1))
    assert find_datasets(layout.root) == [layout.root]


def test_every_term_leads_to_one_of_isic_2019():
    assert {*DIAGNOSES_BY_WORD.values()} == {*CODES, UNKNOWN}
    assert {*SEXES_BY_WORD.values()} == {*SEXES}
    assert {*SITES_BY_WORD.values()} == {*SITES, *COARSE_SITES}
    assert {*ARCHIVE_SITES.values()} == {*SITES, *COARSE_SITES}
    assert DIAGNOSES_BY_WORD[ISIC_2018.codes[3].lower()] == "AK"
    for code, terms in TERMS.items():
        assert {
            DIAGNOSES_BY_WORD[term.lower()] for level, term in terms if level == "diagnosis_3"
        } <= {code}


def test_the_sites_of_ham10000_are_those_that_isic_2019_gave_its_images(data_dir):
    path = data_dir / "isic2019" / "ISIC_2019_Training_Metadata.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    words = [
        "abdomen",
        "acral",
        "back",
        "chest",
        "ear",
        "face",
        "foot",
        "hand",
        "lower extremity",
        "neck",
        "scalp",
    ]
    counts = [
        1022,
        7,
        2192,
        407,
        56,
        745,
        319,
        90,
        2077,
        168,
        128,
        1118,
    ]  # in HAM10000_metadata.csv
    sums: dict[str, int] = {}
    for word, images in zip([*words, "upper extremity"], counts, strict=True):
        sums[SITES_BY_WORD[word]] = sums.get(SITES_BY_WORD[word], 0) + images
    with path.open(encoding="utf-8") as file:
        ham = [row for row in csv.DictReader(file) if row["lesion_id"].startswith("HAM")]
    sites, images = np.unique(
        [row["anatom_site_general"] for row in ham if row["anatom_site_general"]],
        return_counts=True,
    )
    assert sums == dict(zip(sites.tolist(), images.tolist(), strict=True))
