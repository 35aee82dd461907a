"""Reads every table with one reader: labels, patients and ids are right, or a mismatch names the problem."""

import gzip
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadlib.data.consistency import Mismatches
from cadlib.data.image_ids import changed_by_spreadsheet, resolve_id
from cadlib.data.layouts import Layout, Tables, find_layout
from cadlib.data.layouts.columns import NAMES, class_word
from cadlib.data.layouts.table_file import TableRefused, read_text_table
from cadlib.errors import DatasetInvalid
from cadlib.taxonomy import CODES, DIAGNOSES, ISIC_2018, UNKNOWN

IMAGES = ("ISIC_1", "ISIC_2", "ISIC_3")
ONE_HOT = f"image,{','.join((*CODES, UNKNOWN))}"
ONE_COLUMN = "image,dx\nISIC_1,mel\nISIC_2,nv\n"
ISIC_2024 = "isic_id,target,patient_id,iddx_full,iddx_1,iddx_2,iddx_3,tbp_lv_H,mel_thick_mm"


class Reader:
    """Reads a table as the ground truth of some images, and collects the mismatches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found = Mismatches()

    def read(
        self,
        content: str | bytes,
        *,
        name: str = "labels.csv",
        images: tuple[str, ...] = IMAGES,
        role: str = "ground_truth",
    ) -> Tables:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        layout = Layout((), **{role: path})
        return layout.read(pd.Index(images, dtype="str"), self.found)

    def labels(self, content: str | bytes, **options: object) -> dict[str, str | None]:
        return column(self.read(content, **options).labels, "diagnosis")

    def malignant(self, content: str | bytes, **options: object) -> dict[str, bool | None]:
        return column(self.read(content, **options).labels, "malignant")

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        return {
            mismatch.kind.partition(" in ")[0]: mismatch.examples
            for mismatch in self.found.freeze()
        }


def column(table: pd.DataFrame | None, name: str) -> dict[str, object]:
    assert table is not None
    values = table[name].astype("object").where(table[name].notna(), None)
    return dict(values.items())


def one_hot_row(image: str, code: str, yes: str = "1.0", no: str = "0.0", sep: str = ",") -> str:
    return sep.join(
        [image, *(yes if column_code == code else no for column_code in (*CODES, UNKNOWN))]
    )


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


# Values and columns of one-hot tables


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        *(("1", "0"), ("1.0", "0.0"), ("1.000", "0"), ("1", "")),
        *(("True", "False"), ("TRUE", "FALSE"), ("yes", "no"), ("Y", "N"), ("WAHR", "FALSCH")),
    ],
)
def test_reads_each_way_to_write_yes_and_no_in_a_one_hot_table(reader, yes, no):
    rows = [one_hot_row("ISIC_1", "MEL", yes, no), one_hot_row("ISIC_2", "SCC", yes, no)]
    assert reader.labels("\n".join([ONE_HOT, *rows])) == {"ISIC_1": "MEL", "ISIC_2": "SCC"}


@pytest.mark.parametrize(
    "prefix", ["", "diagnosis_", "dx_", "label_", "class_", "Diagnosis ", "DX-"]
)
@pytest.mark.parametrize("case", [str.upper, str.lower, str.title])
def test_reads_class_columns_of_any_case_and_prefix(reader, prefix, case):
    header = ",".join(["Image_ID", *(prefix + case(code) for code in CODES)])
    row = ",".join(["ISIC_1", *("1" if code == "BKL" else "0" for code in CODES)])
    assert reader.labels(f"{header}\n{row}\n") == {"ISIC_1": "BKL"}


def test_reads_class_columns_by_the_names_of_diagnoses(reader):
    header = "image,Melanoma,Melanocytic nevus,Seborrheic keratosis,Solar lentigo"
    assert reader.labels(f"{header}\nISIC_1,1,0,0,0\nISIC_2,0,0,0,1\n") == {
        "ISIC_1": "MEL",
        "ISIC_2": "BKL",
    }


def test_a_blank_is_no_zero_where_the_row_writes_zeros(reader):
    cells = one_hot_row("ISIC_1", "MEL").removesuffix("0.0,0.0") + ",0.0"
    assert reader.labels(f"{ONE_HOT}\n{cells}\n{one_hot_row('ISIC_2', 'NV')}") == {
        "ISIC_1": None,
        "ISIC_2": "NV",
    }
    assert reader.kinds["cells that are not numbers"] == ("ISIC_1 SCC empty",)


def test_a_row_that_is_cut_off_is_no_label(reader):
    assert reader.labels("image,MEL,NV\nISIC_2,0,1\nISIC_1,1") == {"ISIC_1": None, "ISIC_2": "NV"}
    assert reader.kinds["rows shorter than the header"] == ("ISIC_1",)


def test_an_empty_class_column_is_reported(reader):
    row = one_hot_row("ISIC_1", "MEL").removesuffix("0.0")
    assert reader.labels(f"{ONE_HOT}\n{row}\n") == {"ISIC_1": "MEL"}
    assert reader.kinds["class columns without a value"] == ("UNK",)


@pytest.mark.parametrize("cells", ["0,0", "1,1", "0.5,0.5", "2,-1", ","])
def test_a_row_without_exactly_one_diagnosis_is_no_label(reader, cells):
    assert reader.labels(f"image,MEL,NV\nISIC_1,1,0\nISIC_2,{cells}\n")["ISIC_2"] is None
    assert reader.kinds["rows without exactly one diagnosis"][0].startswith("ISIC_2 (")


def test_two_columns_of_one_class_are_refused_with_both_names(reader):
    with pytest.raises(DatasetInvalid, match="but found: MEL, dx_mel. Keep the right"):
        reader.read("image,MEL,dx_mel,NV\nISIC_1,1,0,0\n")


def test_akiec_of_any_case_is_read_as_ak_and_reported(reader):
    header = ",".join(["image", *(code.lower() for code in ISIC_2018.codes)])
    row = ",".join(["ISIC_1", *("1" if code == "AKIEC" else "0" for code in ISIC_2018.codes)])
    assert reader.labels(f"{header}\n{row}\n") == {"ISIC_1": "AK"}
    assert reader.kinds == {"AKIEC taken as AK": ("ISIC_1",)}


def test_one_hot_columns_and_a_diagnosis_have_to_agree(reader):
    table = "image,dx,MEL,NV\nISIC_1,mel,1,0\nISIC_2,mel,0,1\nISIC_3,,0,1\n"
    assert reader.labels(table) == {"ISIC_1": "MEL", "ISIC_2": None, "ISIC_3": "NV"}
    assert reader.kinds["diagnoses that contradict each other"] == ("ISIC_2 (MEL, NV)",)


@pytest.mark.parametrize("name", NAMES["image"])
@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_every_known_column_names_the_images(reader, name, case):
    table = f"{case(name)},MEL,NV\nISIC_1,1,0\n"
    assert reader.labels(table) == {"ISIC_1": "MEL"}


@given(
    st.sampled_from([d.code for d in DIAGNOSES]),
    st.sampled_from(["diagnosis_", "dx ", "Label-", ""]),
)
def test_a_prefix_never_changes_the_class_of_a_column(code, prefix):
    assert class_word(prefix + code) == class_word(code.lower()) == code.lower()


# Files


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_reads_every_encoding_delimiter_and_line_end(reader, encoding, delimiter, end):
    text = ONE_COLUMN.replace(",", delimiter).replace("\n", end)
    assert reader.labels(text.encode(encoding)) == {"ISIC_1": "MEL", "ISIC_2": "NV"}
    assert reader.kinds == {}


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.tsv", "a.tab", "a.TXT"])
def test_the_folder_of_a_data_set_may_have_a_table_of_any_suffix(tmp_path, name):
    (tmp_path / "ISIC_1.jpg").write_bytes(b"")
    (tmp_path / name).write_text("image\tdx\nISIC_1\tmel\n")
    assert find_layout(tmp_path).ground_truth == tmp_path / name


def test_reads_windows_1252_and_reports_it(reader):
    table = "image;dx\nl\u00e4sion_1;mel\n".encode("cp1252")
    assert reader.labels(table, images=("l\u00e4sion_1",)) == {"l\u00e4sion_1": "MEL"}
    assert reader.kinds == {"tables read as Windows-1252": ("labels.csv",)}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"image,dx,note\nISIC_1,mel,\xc3\xa9\nISIC_2,nv,\xe9\n", "UTF-8 in one place"),
        (b"image,dx\nISIC_1,\x81\n", "neither UTF-8 nor Windows-1252 text, at byte 16"),
        ("image,dx\nISIC_1,mel\n".encode("utf-16") + b"\x00", "UTF-16 text is damaged at byte"),
        (b"PK\x03\x04 an office document", "workbook of a spreadsheet"),
        (gzip.compress(ONE_COLUMN.encode(), mtime=0), "compressed: unpack it first"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "no text: character 26"),
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b"image,dx\n", "only a header came"),
        (b'image,dx\nISIC_1,"mel\n', "line 2 cannot be read"),
        (b"image,dx\nISIC_1,mel,nv\n", "line 2 has 3 cells and the header 2"),
        (b"image,dx,dx\nISIC_1,mel,nv\n", "each column of"),
        (b"sep=:\nimage:dx\n", "first line names the delimiter ':'"),
        (b"name,dx\nISIC_1,mel\n", "no column names the images; its columns: name, dx"),
    ],
)
def test_refuses_a_file_that_is_no_table_with_the_reason(reader, content, reason):
    with pytest.raises(TableRefused, match=reason):
        reader.read(content)


@pytest.mark.parametrize(
    "table",
    [
        "sep=;\r\nimage;dx\r\nISIC_1;mel\r\nISIC_2;nv\r\n",
        "\n\nimage,dx\n\nISIC_1,mel\n,\nISIC_2,nv\n\n",
        "image,dx,\nISIC_1,mel,\nISIC_2,nv,\n",
        "image,dx\nISIC_1,mel,,\nISIC_2,nv,\n",
        '"image", "dx"\n"ISIC_1", "mel"\n"ISIC_2", "nv"\n',
        '"image";"dx"\n"ISIC_1";"mel"\n"ISIC_2";"nv"\n',
        "image,dx\r\nISIC_1,mel\r\nISIC_2,nv\r\n\x1a",
        "\ufeff\ufeffimage,dx\nISIC_1,mel\nISIC_2,nv\n",
        "\u00a0image ,dx\n ISIC_1\u00a0, mel\nISIC_2,nv\n",
        'image,dx\n="ISIC_1",="mel"\n"=""ISIC_2""",nv\n',
    ],
)
def test_reads_additions_of_spreadsheets_and_editors(reader, table):
    assert reader.labels(table) == {"ISIC_1": "MEL", "ISIC_2": "NV"}
    assert reader.kinds == {}


def test_an_empty_column_whose_name_looks_like_a_nameless_one_is_reported(reader):
    table = "image,dx,(column 3 of the old table)\nISIC_1,mel,\n"
    assert reader.labels(table) == {"ISIC_1": "MEL"}
    assert reader.kinds == {"unknown columns": ("(column 3 of the old table)",)}


def test_a_delimiter_inside_quotes_separates_nothing(reader):
    table = 'image;dx;note\nISIC_1;mel;"left, then; right"\nISIC_2;nv;"two\nlines"\n'
    assert reader.labels(table) == {"ISIC_1": "MEL", "ISIC_2": "NV"}
    assert reader.kinds == {"unknown columns": ("note",)}


def test_a_header_that_two_delimiters_split_is_refused_with_both(reader):
    with pytest.raises(TableRefused, match="separated by comma or semicolon"):
        reader.read("image,dx;image\nISIC_1,mel;ISIC_1\n")


@given(
    st.lists(st.sampled_from(CODES), min_size=1, max_size=9), st.sampled_from([",", ";", "\t", "|"])
)
def test_any_delimiter_gives_the_same_labels(tmp_path_factory, codes, delimiter):
    reader = Reader(tmp_path_factory.mktemp("table"))
    rows = [one_hot_row(f"a{n}", code, sep=delimiter) for n, code in enumerate(codes)]
    table = "\n".join([ONE_HOT.replace(",", delimiter), *rows])
    assert reader.labels(table) == {f"a{n}": code for n, code in enumerate(codes)}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    path.write_bytes(content)
    try:
        table = read_text_table(path)
    except TableRefused:
        return
    assert len(table.cells) == len(table.short_rows) > 0


def test_decimal_commas_are_numbers(reader):
    table = f"{ONE_HOT};age\n".replace(",", ";")
    table += one_hot_row("ISIC_1", "DF", "1,0", "0,0", ";") + ";45,5\n"
    tables = reader.read(table)
    assert column(tables.labels, "diagnosis") == {"ISIC_1": "DF"}
    assert column(tables.facts, "age_approx") == {"ISIC_1": 45.5}


# Ids


@pytest.mark.parametrize(
    "cell",
    [
        *("ISIC_1", "ISIC_1.jpg", "ISIC_1.JPG", "ISIC_1.jpeg", "ISIC_1.dcm", "train/ISIC_1.jpg"),
        *("C:\\data\\ISIC_1.JPG", "./ISIC_1", "/data/a.b/ISIC_1.png", " ISIC_1.jpg "),
    ],
)
@pytest.mark.parametrize("table", ["image,MEL,NV\n{},1,0\n", "image,dx\n{},mel\n"])
def test_a_cell_names_an_image_with_or_without_suffix_and_path(reader, cell, table):
    assert reader.labels(table.format(cell)) == {"ISIC_1": "MEL"}


@pytest.mark.parametrize("image", ["M\u00fcller \u00e5", "\u30ac\u30a4\u30c9", "Nguy\u1ec5n"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_letters_are_the_same_id(reader, image, form):
    cell = unicodedata.normalize(form, image)
    assert reader.labels(f"image,dx\n{cell}.jpg,mel\n", images=(image,)) == {image: "MEL"}


@given(st.text(min_size=1).map(str.strip).filter(lambda text: text.strip("./\\ ")))
def test_finds_an_id_by_its_file_name_in_either_form(text):
    image = unicodedata.normalize("NFC", text.replace("/", "_").replace("\\", "_"))
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, image)
        assert resolve_id(f"folder/{name}.JPG", frozenset({image})) == image


def test_an_id_of_digits_stays_a_text(reader):
    assert reader.labels("image,dx\n0123,mel\n", images=("0123",)) == {"0123": "MEL"}
    assert reader.kinds == {}


def test_the_text_na_is_an_id(reader):
    assert reader.labels("image,dx\nNA,mel\nnull,NA\n", images=("NA", "null")) == {
        "NA": "MEL",
        "null": None,
    }


def test_ids_that_a_spreadsheet_changed_are_reported_and_not_corrected(reader):
    table = "image,dx\n123,mel\n1.0E+05,nv\n7.0,bcc\n1-Mar,df\n"
    assert set(reader.labels(table, images=("0123", "100000", "7"))) == {
        "123",
        "1.0E+05",
        "7.0",
        "1-Mar",
    }
    assert reader.kinds["ids changed by a spreadsheet"] == (
        "123 (image 0123)",
        "1.0E+05",
        "7.0 (image 7)",
        "1-Mar",
    )


def test_digits_that_a_spreadsheet_rounded_are_reported():
    image = "12345678901234567"
    rounded = "12345678901234500"
    assert changed_by_spreadsheet([rounded], [image]) == [f"{rounded} (image {image})"]
    assert changed_by_spreadsheet(["ISIC_1", "MAR_1", "2E", "12"], [image]) == []


# Benign and malignant


def test_isic_2020_has_diagnoses_and_lesions_known_to_be_benign(reader):
    header = "image_name,patient_id,diagnosis,benign_malignant,target"
    rows = (
        "ISIC_1,IP_1,unknown,benign,0",
        "ISIC_2,IP_1,melanoma,malignant,1",
        "ISIC_3,IP_2,nevus,benign,0",
    )
    tables = reader.read("\n".join([header, *rows]))
    assert column(tables.labels, "diagnosis") == {"ISIC_1": None, "ISIC_2": "MEL", "ISIC_3": "NV"}
    assert column(tables.labels, "malignant") == {"ISIC_1": False, "ISIC_2": True, "ISIC_3": False}
    assert tables.labels["malignant"].dtype == "boolean"
    assert tables.whole
    assert reader.kinds == {"images with only benign or malignant": ("ISIC_1",)}


def test_isic_2024_has_three_kinds_of_lesions(reader):
    rows = (
        "ISIC_1,0,IP_1,Benign,Benign,,,1.5,",
        "ISIC_2,1,IP_1,Malignant::M::Melanoma in situ,Malignant,M,Melanoma in situ,1.5,0.2",
        "ISIC_3,0,IP_2,Indeterminate::I,Indeterminate,I,,1.5,",
    )
    tables = reader.read("\n".join([ISIC_2024, *rows]))
    assert column(tables.labels, "diagnosis") == {"ISIC_1": None, "ISIC_2": "MEL", "ISIC_3": None}
    assert column(tables.labels, "malignant") == {"ISIC_1": False, "ISIC_2": True, "ISIC_3": None}
    assert reader.kinds == {
        "indeterminate lesions": ("ISIC_3",),
        "images with only benign or malignant": ("ISIC_1",),
        "images without a diagnosis": ("ISIC_3",),
    }


def test_the_levels_of_isic_2024_are_enough(reader):
    table = (
        "isic_id,iddx_full\nISIC_1,Benign::Nevi::Nevus\nISIC_2,Malignant\nISIC_3,Indeterminate::x\n"
    )
    assert reader.malignant(table) == {"ISIC_1": False, "ISIC_2": True, "ISIC_3": None}


def test_the_first_level_of_the_isic_archive_is_benign_or_malignant(reader):
    table = "isic_id,diagnosis_1,diagnosis_3\nISIC_1,Benign,\nISIC_2,Malignant,\nISIC_3,Indeterminate,\n"
    assert reader.malignant(table) == {"ISIC_1": False, "ISIC_2": True, "ISIC_3": None}


@pytest.mark.parametrize(
    "name", ["malignant", "Benign_Malignant", "target", "label", "Diagnosis", "dx", "class"]
)
def test_reads_a_column_of_benign_and_malignant_alone(reader, name):
    table = f"image,{name}\nISIC_1,benign\nISIC_2,Malignant\nISIC_3,\n"
    tables = reader.read(table)
    assert column(tables.labels, "malignant") == {"ISIC_1": False, "ISIC_2": True, "ISIC_3": None}
    assert tables.labels["diagnosis"].isna().all()


@pytest.mark.parametrize(
    ("yes", "no"), [("1", "0"), ("1.0", "0.0"), ("True", "False"), ("yes", "no")]
)
@pytest.mark.parametrize("name", ["malignant", "is_malignant", "target"])
def test_reads_a_column_of_numbers_or_truth_values(reader, name, yes, no):
    table = f"image,{name}\nISIC_1,{yes}\nISIC_2,{no}\nISIC_3,\n"
    assert reader.malignant(table) == {"ISIC_1": True, "ISIC_2": False, "ISIC_3": None}


def test_reads_one_column_for_benign_and_one_for_malignant(reader):
    table = "image,benign,malignant\nISIC_1,1,0\nISIC_2,0,1\nISIC_3,1,1\n"
    assert reader.malignant(table) == {"ISIC_1": False, "ISIC_2": True, "ISIC_3": None}
    kind = "diagnoses and benign/malignant that contradict each other"
    assert reader.kinds[kind] == ("ISIC_3 (benign, malignant)",)


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_a_diagnosis_decides_whether_a_lesion_is_malignant(reader, diagnosis):
    table = f"image,diagnosis,target\nISIC_1,{diagnosis.code},\nISIC_2,,1\n"
    assert reader.malignant(table) == {"ISIC_1": diagnosis.malignant, "ISIC_2": True}


@pytest.mark.parametrize(
    ("code", "target"),
    [(d.code, int(not d.malignant)) for d in DIAGNOSES if d.code != "AK"],
)
def test_a_diagnosis_that_contradicts_benign_or_malignant_is_not_used(reader, code, target):
    tables = reader.read(f"image,diagnosis,target\nISIC_1,{code},{target}\n")
    assert column(tables.labels, "diagnosis") == {"ISIC_1": None}
    assert column(tables.labels, "malignant") == {"ISIC_1": None}
    word = "malignant" if target else "benign"
    kind = "diagnoses and benign/malignant that contradict each other"
    assert reader.kinds[kind] == (f"ISIC_1 ({code}, {word})",)


@pytest.mark.parametrize("statement", ["0", "benign", "indeterminate"])
def test_keratosis_labelled_benign_is_stated_and_no_contradiction(reader, statement):
    tables = reader.read(f"image,diagnosis,target\nISIC_1,AK,{statement}\n")
    assert column(tables.labels, "diagnosis") == {"ISIC_1": "AK"}
    assert column(tables.labels, "malignant") == {"ISIC_1": True}
    assert reader.kinds == {"AK counted as malignant": ("ISIC_1",)}


def test_one_column_may_hold_diagnoses_and_benign(reader):
    tables = reader.read("image,diagnosis\nISIC_1,MEL\nISIC_2,benign\nISIC_3,wart\n")
    assert column(tables.labels, "diagnosis") == {"ISIC_1": "MEL", "ISIC_2": None, "ISIC_3": None}
    assert column(tables.labels, "malignant") == {"ISIC_1": True, "ISIC_2": False, "ISIC_3": None}


def test_a_benign_label_is_allowed_beside_a_diagnosis(reader):
    table = "image,diagnosis,label\nISIC_1,MEL,malignant\nISIC_2,NV,benign\n"
    assert reader.malignant(table) == {"ISIC_1": True, "ISIC_2": False}
    assert reader.kinds == {}


def test_a_scale_of_malignancy_is_not_used(reader):
    tables = reader.read("image,malignancy\nISIC_1,1\nISIC_2,5\n")
    assert tables.labels is None
    assert reader.kinds == {
        "benign/malignant columns of other numbers": ("malignancy: ISIC_2 '5'",)
    }


def test_the_number_of_a_class_is_no_diagnosis(reader):
    tables = reader.read("image,label\nISIC_1,0\nISIC_2,1\n")
    assert tables.labels["diagnosis"].isna().all()
    assert "malignant" not in tables.labels
    assert reader.kinds["diagnoses that are none of the eight"] == ("ISIC_1 '0'", "ISIC_2 '1'")


def test_an_unknown_word_is_neither_benign_nor_malignant(reader):
    assert (
        reader.malignant("image,benign_malignant\nISIC_1,benign\nISIC_2,maybe\n")["ISIC_2"] is None
    )
    assert reader.kinds["words that are neither benign nor malignant"] == ("ISIC_2 'maybe'",)


def test_target_may_hold_diagnoses(reader):
    assert reader.labels("image,target\nISIC_1,MEL\nISIC_2,nv\n") == {
        "ISIC_1": "MEL",
        "ISIC_2": "NV",
    }


def test_rows_of_an_id_that_contradict_each_other_have_no_label(reader):
    table = "image,target\nISIC_1,1\nISIC_1.jpg,0\nISIC_2,1\nISIC_2,1\n"
    assert reader.malignant(table) == {"ISIC_1": None, "ISIC_2": True}
    assert reader.kinds["contradicting rows for one id"] == ("ISIC_1",)


def test_a_one_hot_table_may_have_a_column_of_malignancy(reader):
    table = "image,MEL,NV,malignant\nISIC_1,1,0,1\nISIC_2,0,0,0\nISIC_3,0,1,1\n"
    tables = reader.read(table)
    assert column(tables.labels, "diagnosis") == {"ISIC_1": "MEL", "ISIC_2": None, "ISIC_3": None}
    assert column(tables.labels, "malignant") == {"ISIC_1": True, "ISIC_2": False, "ISIC_3": None}
    assert tables.whole


def test_a_table_that_states_only_diagnoses_has_no_column_malignant(reader):
    assert list(reader.read(ONE_COLUMN).labels) == ["diagnosis"]


# Sites


@pytest.mark.parametrize("word", ["torso", "Trunk", "TORSO"])
@pytest.mark.parametrize("role", ["ground_truth", "metadata"])
def test_torso_is_kept_as_a_coarser_site(reader, word, role):
    facts = reader.read(f"image,dx,site\nISIC_1,mel,{word}\n", role=role).facts
    assert column(facts, "anatom_site_general") == {"ISIC_1": "torso"}


@pytest.mark.parametrize(
    ("levels", "site"),
    [
        (("Trunk", ""), "torso"),
        (("Trunk", "Anterior trunk"), "anterior torso"),
        (("Trunk", "Lateral trunk"), "lateral torso"),
        (("Head and neck", "Face"), "head/neck"),
        (("Anogenital region", "Perianal region"), None),
        (("", ""), None),
    ],
)
def test_reads_the_levels_of_a_site_of_the_isic_archive(reader, levels, site):
    table = f"isic_id,diagnosis_1,anatom_site_1,anatom_site_2\nISIC_1,Benign,{','.join(levels)}\n"
    assert column(reader.read(table).facts, "anatom_site_general") == {"ISIC_1": site}


# Tables in a folder


def folder_with(tmp_path: Path, **tables: str | bytes) -> Path:
    (tmp_path / "ISIC_1.jpg").write_bytes(b"")
    for name, content in tables.items():
        path = tmp_path / name.replace("__", ".")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return tmp_path


def test_every_table_that_is_not_used_is_named_with_the_reason(tmp_path):
    layout = find_layout(
        folder_with(
            tmp_path,
            truth__csv=ONE_COLUMN + "ISIC_3,bcc\n",
            broken__csv=b"image,dx\nISIC_1,\x81\n",
            pixels__tsv="p0\tp1\n1\t2\n",
            labels__xlsx=b"PK\x03\x04",
            packed__csv__gz=gzip.compress(ONE_COLUMN.encode()),
            archive__zip=b"PK\x03\x04",
            frame__parquet=b"PAR1",
            notes__txt="Read me, please",
        )
    )
    assert layout.ground_truth == tmp_path / "truth.csv"
    assert [str(table) for table in layout.spare] == [
        "broken.csv (it is neither UTF-8 nor Windows-1252 text, at byte 16 (0x81))",
        "pixels.tsv (no column names the images; its columns: p0, p1)",
        "frame.parquet (a binary table: save it as CSV)",
        "labels.xlsx (a workbook: save it as CSV)",
        "packed.csv.gz (a compressed table: unpack it)",
    ]


def test_a_folder_without_a_usable_table_names_those_that_are_there(tmp_path):
    folder = folder_with(tmp_path, a__csv="name,dx\nISIC_1,mel\n", b__xls=b"\xd0\xcf\x11\xe0")
    with pytest.raises(
        DatasetInvalid, match=r"a\.csv \(no column names the images.*b\.xls \(a workbook"
    ):
        find_layout(folder)


def test_a_table_beside_images_below_the_folder_is_named(tmp_path):
    below = tmp_path / "images"
    below.mkdir()
    folder_with(below, labels__csv=ONE_COLUMN)
    with pytest.raises(DatasetInvalid, match=r"labels\.csv \(it lies in images: move it to "):
        find_layout(tmp_path)


def test_labels_are_joined_with_the_one_table_of_patients(tmp_path):
    folder = folder_with(tmp_path, labels__csv=ONE_COLUMN, patients__csv="image,age\nISIC_1,60\n")
    layout = find_layout(folder)
    assert (layout.ground_truth, layout.table) == (folder / "labels.csv", folder / "patients.csv")


def test_a_challenge_folder_names_the_tables_that_it_does_not_use(tmp_path):
    images = tmp_path / "ISIC_2019_Training_Input"
    images.mkdir()
    folder_with(images)
    (tmp_path / "ISIC_2019_Training_GroundTruth.CSV").write_text(ONE_COLUMN)
    (tmp_path / "mine.csv").write_text(ONE_COLUMN)
    (tmp_path / "attribution.csv").write_text("image,attribution\nISIC_1,A\n")
    layout = find_layout(tmp_path)
    assert layout.ground_truth == tmp_path / "ISIC_2019_Training_GroundTruth.CSV"
    assert [table.path.name for table in layout.spare] == ["mine.csv"]
    for name in ("GroundTruth", "Metadata", "LesionGroupings"):
        assert f"{name}.csv" in layout.spare[0].reason


def test_a_challenge_folder_without_a_ground_truth_takes_the_one_table_of_labels(tmp_path):
    images = tmp_path / "ISIC_2019_Training_Input"
    images.mkdir()
    folder_with(images)
    (tmp_path / "mine.csv").write_text(ONE_COLUMN)
    assert find_layout(tmp_path).ground_truth == tmp_path / "mine.csv"


# The official tables


def test_the_official_tables_are_read_as_a_plain_csv_reader_does(data_dir):
    folder = data_dir / "isic2019"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    layout = find_layout(folder)
    tables = layout.read(pd.Index([], dtype="str"), Mismatches())
    truth = pd.read_csv(layout.ground_truth).set_index("image").sort_index()
    metadata = pd.read_csv(layout.metadata).set_index("image").sort_index()
    assert tables.labels["diagnosis"].equals(truth.idxmax(axis=1).astype("str"))
    assert list(tables.labels) == ["diagnosis"]
    ages = tables.facts["age_approx"].to_numpy(np.float64, na_value=np.nan)
    assert np.array_equal(ages, metadata["age_approx"].to_numpy(np.float64), equal_nan=True)
    for name in ("sex", "anatom_site_general", "lesion_id"):
        assert tables.facts[name].equals(metadata[name].astype("str"))
