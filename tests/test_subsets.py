"""Named selections of images: kept as a file that a person can read, checked when it comes back."""

import pytest

from cadlib.data.subsets import (
    Subset,
    delete_subset,
    list_subsets,
    read_subset,
    save_subset,
    subsets_dir,
)
from cadlib.errors import DatasetInvalid, SubsetInvalid

SUBSET = Subset(
    "Melanomas below 40", "drawn", ("ISIC_9000002", "ISIC_9000001"), "diagnosis MEL, age 0 to 39"
)


def test_a_saved_subset_is_read_back(subsets_folder):
    odd = Subset("b.2_ü", "ein Ordner, größer", ("a,b", 'c"d', "e"), 'what "he" chose,\n"and" why,')
    for subset in (SUBSET, odd):
        save_subset(subset)
        assert read_subset(subset.name) == subset
    assert subsets_dir() == subsets_folder
    assert list_subsets() == [SUBSET.name, odd.name]
    assert sorted(path.name for path in subsets_folder.iterdir()) == [
        "Melanomas below 40.csv",
        "b.2_ü.csv",
    ]


def test_the_file_can_be_read_and_edited_by_hand(subsets_folder):
    save_subset(SUBSET)
    path = subsets_folder / "Melanomas below 40.csv"
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    assert head == '# {"dataset": "drawn", "chosen": "diagnosis MEL, age 0 to 39"}'
    assert rows == ["image", "ISIC_9000002", "ISIC_9000001"]
    path.write_text(f"\ufeff{head}\r\nnote,image\r\n,ISIC_9000007 \r\n\r\n", encoding="utf-8")
    assert read_subset(SUBSET.name).images == ("ISIC_9000007",)


def test_a_name_saved_again_replaces_the_former_and_a_deleted_one_is_gone():
    assert list_subsets() == []
    save_subset(SUBSET)
    save_subset(Subset(SUBSET.name, "drawn", ("ISIC_9000003",), "one"))
    assert read_subset(SUBSET.name).images == ("ISIC_9000003",)
    delete_subset(SUBSET.name)
    assert list_subsets() == []
    for function in (read_subset, delete_subset):
        with pytest.raises(
            SubsetInvalid, match=r"'Melanomas below 40'\. Use one of those in .*: none"
        ):
            function(SUBSET.name)


def test_the_hash_is_that_of_the_images_whatever_their_order_and_name():
    reordered = Subset("other", "elsewhere", SUBSET.images[::-1], "by hand")
    fewer = Subset(SUBSET.name, SUBSET.dataset, SUBSET.images[:1], SUBSET.chosen)
    assert reordered.sha256 == SUBSET.sha256 != fewer.sha256


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "a\\b", ".hidden", "a ", "-x", "a\n", "n" * 61, "a:b"]
)
def test_refuses_a_name_of_which_a_path_could_be_made(name):
    for use in (read_subset, delete_subset, lambda name: Subset(name, "drawn", ("a",), "")):
        with pytest.raises(SubsetInvalid, match="Expected a name of 1 to 60 letters"):
            use(name)


@pytest.mark.parametrize(
    ("images", "message"),
    [((), "it has none"), (("a", ""), "one is empty"), (("a", "b", "a"), "but a is repeated")],
)
def test_refuses_images_that_are_no_selection(images, message):
    with pytest.raises(SubsetInvalid, match=message):
        Subset("a", "drawn", images, "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "to begin with a line like # {"),
        (b"image\nISIC_1\n", "to begin with a line like .* but got 'image'"),
        (b'# {"dataset": "a"}\nimage\nISIC_1\n', "to begin with a line"),
        (b'# {"dataset": "a", "chosen": 3}\nimage\nISIC_1\n', "to begin with a line"),
        (b"# []\nimage\nISIC_1\n", "to begin with a line"),
        (b'# {"dataset": "a", "chosen": ""}\n', "it has none"),
        (b'# {"dataset": "a", "chosen": ""}\nimage\n', "it has none"),
        (b'# {"dataset": "a", "chosen": ""}\nid\nISIC_1\n', "a column `image` .* but found: id"),
        (b'# {"dataset": "a", "chosen": ""}\nimage\nISIC_1\nISIC_1\n', "ISIC_1 is repeated"),
        (b'# {"dataset": "a", "chosen": ""}\nnote,image\nx\n', "one is empty"),
        (b'# {"dataset": "a", "chosen": ""}\nimage\n"ISIC_1\n', "a CSV file behind the first line"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_damaged_file_is_an_error_with_the_reason(subsets_folder, content, message):
    subsets_folder.mkdir()
    (subsets_folder / "spoilt.csv").write_bytes(content)
    with pytest.raises(SubsetInvalid, match=message):
        read_subset("spoilt")
    assert list_subsets() == ["spoilt"]


def test_an_unwritable_subset_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CADLIB_SUBSETS", str(tmp_path / "file"))
    with pytest.raises(SubsetInvalid, match=r"file.*cannot be written.*CADLIB_SUBSETS"):
        save_subset(SUBSET)


def test_a_subset_selects_its_images_and_reports_missing_ones(drawn_dataset):
    subset = Subset("some", "elsewhere", ("ISIC_9000002", "ISIC_1", "ISIC_9000000"), "by hand")
    part = subset.of(drawn_dataset)
    assert part.table["image"].tolist() == ["ISIC_9000000", "ISIC_9000002"]
    assert part.table.columns.equals(drawn_dataset.table.columns)
    assert (part.name, part.report.usable, part.report.rows) == (
        "drawn",
        2,
        drawn_dataset.report.rows,
    )
    assert part.report.mismatches[-1].examples == ("ISIC_1",)
    assert part.report.count("images of the subset that are not there") == 1
    assert drawn_dataset.report.count("images of the subset that are not there") == 0


def test_refuses_a_data_set_with_none_of_its_images(drawn_dataset):
    with pytest.raises(
        DatasetInvalid, match=r"subset some in drawn, but none of its 1 .* selected in elsewhere"
    ):
        Subset("some", "elsewhere", ("ISIC_1",), "by hand").of(drawn_dataset)
