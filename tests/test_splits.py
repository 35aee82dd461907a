"""Lesion groups and splits: no lesion on two sides, nothing that depends on the order of rows."""

from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cadlib import images
from cadlib.data import splits
from cadlib.data.splits import (
    SPLITS,
    cross_validation_folds,
    lesion_groups,
    perceptual_hashes,
    read_split,
    split,
    split_csv,
)
from cadlib.errors import DatasetInvalid
from cadlib.taxonomy import CODES


def table_of(lesions: list[str | None], diagnoses: list[str] | None = None) -> pd.DataFrame:
    n = len(lesions)
    return pd.DataFrame({
        "image": [f"ISIC_{number:05}" for number in range(n)],
        "diagnosis": pd.Series(diagnoses or ["NV"] * n, dtype="str"),
        "lesion_id": pd.Series(lesions, dtype="str"),
        "lesion_group": pd.Series([None] * n, dtype="str"),
    })  # fmt: skip


def hashes_of(*values: int) -> pd.Series:
    return pd.Series(values, dtype="uint64")


def far_apart(n: int) -> pd.Series:
    """Return n hashes of which no two are near."""
    return pd.Series(np.random.default_rng(0).integers(0, 2**63, n, dtype=np.uint64))


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> pd.DataFrame:
    """Return a table of four pictures, with an empty cache."""
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    paths = []
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"ISIC_{number}.png")
        paths.append(str(tmp_path / f"ISIC_{number}.png"))
    return pd.DataFrame(
        {"image": [Path(path).stem for path in paths], "path": paths}, index=[7, 3, 5, 1]
    )


def test_the_hash_is_that_of_imagehash(pictures):
    hashes = perceptual_hashes(pictures)
    assert hashes.dtype == np.uint64
    assert hashes.index.equals(pictures.index)
    for value, path in zip(hashes, pictures["path"], strict=True):
        assert f"{value:016x}" == str(imagehash.phash(Image.open(path).convert("RGB")))


def test_known_hashes_are_not_computed_again(pictures, monkeypatch):
    first = perceptual_hashes(pictures)
    monkeypatch.setattr(images, "read_image", None)
    assert perceptual_hashes(pictures.iloc[::-1]).equals(first.iloc[::-1])


def test_a_changed_file_is_hashed_again(pictures):
    first = perceptual_hashes(pictures)
    Image.open(pictures["path"].iloc[1]).rotate(90).save(pictures["path"].iloc[0])
    assert (perceptual_hashes(pictures) != first).tolist() == [True, False, False, False]


def test_a_damaged_cache_is_computed_again(pictures, tmp_path):
    first = perceptual_hashes(pictures)
    for damage in (b"one,two\n", b"a,b,no number\n", b"\xff\xfe\0"):
        (tmp_path / "cache" / "perceptual-hashes.csv").write_bytes(damage)
        assert perceptual_hashes(pictures).equals(first)


def test_an_unwritable_cache_is_reported_and_does_no_harm(pictures, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(perceptual_hashes(pictures)) == 4
    assert "CADLIB_CACHE" in caplog.text


def test_hashing_reports_progress_and_skips_an_unreadable_file(pictures):
    calls: list[tuple[int, int]] = []
    hashes = perceptual_hashes(pictures, lambda _, *step: calls.append(step))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    Path(pictures["path"].iloc[0]).write_text("no picture")
    assert perceptual_hashes(pictures).equals(hashes.iloc[1:])


def test_hashes_are_kept_when_hashing_is_stopped_half_way(pictures, tmp_path):
    def stop(_step: str, done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perceptual_hashes(pictures, stop)
    assert len((tmp_path / "cache" / "perceptual-hashes.csv").read_text().splitlines()) == 2


def test_hashes_are_saved_regularly_in_case_the_process_is_killed(pictures, tmp_path, monkeypatch):
    cache = tmp_path / "cache" / "perceptual-hashes.csv"
    lines = []
    monkeypatch.setattr(splits, "KEEP_SECONDS", 0)
    perceptual_hashes(
        pictures, lambda _step, done, _total: lines.append(len(cache.read_text().splitlines()))
    )
    assert lines == [1, 2, 3, 4]


def test_near_duplicates_are_found_in_a_set_of_half_a_million():
    hashes = far_apart(500_000)
    hashes.iloc[7] = hashes.iloc[300_000] ^ np.uint64(1 << 40)
    groups = lesion_groups(table_of([None] * len(hashes)), hashes)
    assert groups.nunique() == len(hashes) - 1
    assert groups[7] == groups[300_000]


def test_groups_images_by_lesion_and_leaves_others_single():
    table = table_of(["a", None, "b", "a", None])
    assert lesion_groups(table, far_apart(5)).tolist() == [0, 1, 2, 0, 3]


def test_near_duplicates_join_and_three_bits_apart_do_not():
    groups = lesion_groups(table_of([None] * 4), hashes_of(0, 0b11, 0xFF << 32, 0xFF << 32 | 0b111))
    assert groups.tolist() == [0, 0, 1, 2]


def test_groups_reach_as_far_as_lesion_group_and_hash_link_them():
    table = table_of(["a", "a", None, None, None])
    table["lesion_group"] = pd.Series([None, None, None, "g", "g"], dtype="str")
    assert (
        lesion_groups(table, hashes_of(0xF0, 0xFF << 16, 0xFF << 16, 0xF1, 0xFF << 40)).tolist()
        == [0] * 5
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_groups_are_the_components_of_the_distances_in_any_order_of_rows(values, random):
    expected = list(range(len(values)))
    for (
        _
    ) in values:  # the plain way: lower each label to its smallest neighbour's until nothing moves
        labelled = list(zip(expected, values, strict=True))
        expected = [min(label for label, w in labelled if (v ^ w).bit_count() <= 2) for v in values]
    order = list(range(len(values)))
    random.shuffle(order)
    table = table_of([None] * len(values)).iloc[order]
    groups = lesion_groups(table, hashes_of(*values).iloc[order]).sort_index()
    assert groups.tolist() == pd.factorize(np.array(expected))[0].tolist()


def grouped_table(rows):
    """Return a table of these diagnoses, and the groups of its rows."""
    diagnoses, numbers = zip(*rows, strict=True)
    return table_of([None] * len(rows), list(diagnoses)), pd.Series(numbers)


ROWS = st.lists(st.tuples(st.sampled_from(CODES), st.integers(0, 30)), min_size=1, max_size=120)
"""Diagnosis and number of the group, of each row."""


@settings(max_examples=40, deadline=None)
@given(
    ROWS,
    st.integers(0, 5),
    st.sampled_from([(0.15, 0.15), (0.5, 0.0), (0.0, 0.0), (0.1, 0.4)]),
    st.randoms(use_true_random=False),
)
def test_a_split_never_divides_a_group_and_never_depends_on_the_order_of_rows(
    rows, seed, shares, random
):
    table, groups = grouped_table(rows)
    parts = split(table, groups, seed, *shares)
    used_splits = [name for name, share in zip(SPLITS, (1, *shares), strict=True) if share]
    assert parts.isin(used_splits).all()
    assert (parts.groupby(groups).nunique() == 1).all()
    order = list(range(len(rows)))
    random.shuffle(order)
    renamed = groups.map(dict(enumerate(random.sample(range(99), 31))))
    reordered = split(table.iloc[order], renamed.iloc[order], seed, *shares)
    assert reordered.sort_index().equals(parts)


def test_every_class_keeps_its_share():
    rng = np.random.default_rng(0)
    diagnoses = rng.choice(["NV", "MEL", "DF"], 3000, p=[0.8, 0.17, 0.03]).tolist()
    groups = pd.Series(rng.integers(0, 1500, 3000))
    parts = split(table_of([None] * 3000, diagnoses), groups)
    shares = pd.crosstab(pd.Series(diagnoses), parts, normalize="index")
    np.testing.assert_allclose(shares[list(SPLITS)], [[0.7, 0.15, 0.15]] * 3, atol=0.02)


def test_a_class_of_three_lesions_is_in_every_split_and_a_single_lesion_trains():
    parts = split(table_of([None] * 4, ["NV", "NV", "NV", "DF"]), pd.Series(range(4)))
    assert sorted(parts[:3]) == sorted(SPLITS)
    assert parts[3] == "train"


def test_the_seed_alone_chooses_among_splits():
    table = table_of([None] * 200)
    groups = pd.Series(range(200))
    assert split(table, groups, seed=1).equals(split(table, groups, seed=1))
    assert not split(table, groups, seed=1).equals(split(table, groups, seed=2))


def test_images_without_a_diagnosis_can_be_split():
    table = table_of([None] * 20).assign(diagnosis=pd.Series([None] * 20, dtype="str"))
    assert set(split(table, pd.Series(range(20)))) == set(SPLITS)


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.1), (0.1, -0.1), (0.5, 0.5), (1.5, 0.0)])
def test_refuses_shares_that_leave_nothing_to_train_on(validation, test):
    with pytest.raises(ValueError, match="Expected `validation` and `test`"):
        split(table_of([None]), pd.Series([0]), validation=validation, test=test)


def test_refuses_to_split_no_image():
    with pytest.raises(ValueError, match="no row"):
        split(table_of([]), pd.Series([], dtype="int64"))


def test_a_written_split_is_read_back_sorted_by_image(tmp_path):
    table = table_of(["a", "b", "a"]).iloc[::-1]
    groups = pd.Series([0, 1, 0])
    parts = pd.Series(["train", "test", "train"], dtype="str")
    (tmp_path / "split.csv").write_text(split_csv(table, groups, parts))
    rows = read_split(tmp_path / "split.csv")
    assert rows["image"].tolist() == ["ISIC_00000", "ISIC_00001", "ISIC_00002"]
    assert rows["lesion_group"].tolist() == [0, 1, 0]
    assert rows["split"].tolist() == ["train", "test", "train"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,split\na,train\n", "a whole number as lesion_group"),
        ("image,lesion_group\na,1\n", "train, validation, test as split"),
        ("image,lesion_group,split\na,1,Train\n", "train, validation, test as split"),
        ("image,lesion_group,split\na,1.5,train\n", "a whole number as lesion_group"),
        ("image,lesion_group,split\na,1,train\na,1,train\n", "each image once"),
        ("image,lesion_group,split\n,1,train\n", "each image once"),
        ("image,lesion_group,split\na,1,train\nb,1,test\n", "a lesion group in one split"),
        ("image,diagnosis\na,NV\n", "Expected columns lesion_group, split"),
    ],
)
def test_refuses_a_split_that_is_incomplete_or_leaks(tmp_path, content, message):
    (tmp_path / "split.csv").write_text(content)
    with pytest.raises(DatasetInvalid, match=message):
        read_split(tmp_path / "split.csv")


def test_a_split_that_leaks_can_be_read_by_who_looks_for_leaks(tmp_path):
    (tmp_path / "split.csv").write_text("image,lesion_group,split\na,1,train\nb,1,test\n")
    assert read_split(tmp_path / "split.csv", leaking=True)["split"].tolist() == ["train", "test"]


def test_the_real_set_splits_by_lesion_with_every_class_at_its_share(isic2019_dataset):
    table = isic2019_dataset.table
    groups = lesion_groups(
        table, far_apart(len(table))
    )  # hashing 24,000 pictures is too long for a test
    parts = split(table, groups)
    assert parts.groupby(table["lesion_id"]).nunique().max() == 1
    assert parts.groupby(table["lesion_group"]).nunique().max() == 1
    shares = pd.crosstab(table["diagnosis"], parts, normalize="index")[list(SPLITS)]
    np.testing.assert_allclose(shares, [[0.7, 0.15, 0.15]] * len(CODES), atol=0.01)


def test_given_pairs_join_groups():
    pairs = np.array([[0, 2], [3, 4]])
    assert lesion_groups(table_of([None] * 5), far_apart(5), pairs).tolist() == [0, 1, 2, 0, 2]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(CODES), st.integers(0, 30)), min_size=1, max_size=120),
    st.integers(2, 6),
    st.randoms(use_true_random=False),
)
def test_folds_never_divide_a_group_and_never_depend_on_the_order_of_rows(rows, n_folds, random):
    diagnoses, numbers = zip(*rows, strict=True)
    table = table_of([None] * len(rows), list(diagnoses))
    groups = pd.Series(numbers)
    folds = cross_validation_folds(table, groups, n_folds)
    assert folds.between(0, n_folds - 1).all()
    assert (folds.groupby(groups).nunique() == 1).all()
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = cross_validation_folds(table.iloc[order], groups.iloc[order], n_folds)
    assert shuffled.sort_index().equals(folds)


def test_each_fold_has_its_share_of_each_class():
    table = table_of([None] * 1000, ["NV"] * 900 + ["DF"] * 100)
    groups = pd.Series(range(1000))
    counts = pd.crosstab(cross_validation_folds(table, groups, 5), table["diagnosis"])
    assert counts["NV"].tolist() == [180] * 5
    assert counts["DF"].tolist() == [20] * 5


def test_refuses_a_single_fold():
    table = table_of([None])
    with pytest.raises(ValueError, match="at least 2 folds"):
        cross_validation_folds(table, pd.Series([0]), 1)
