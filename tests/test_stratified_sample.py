from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadlib.data.dataset import Dataset, DatasetReport
from cadlib.data.stratified_sample import stratified_sample
from cadlib.errors import DatasetInvalid
from cadlib.taxonomy import CODES
from tests.partial_labels import only_groups

STRATUM = st.tuples(st.sampled_from(CODES), st.sampled_from(["HAM10000", "MSK", None]))


def dataset_of(strata: list[tuple[str | None, str | None]]) -> Dataset:
    table = pd.DataFrame(
        {
            "image": [f"ISIC_{number:07}" for number in range(len(strata))],
            "diagnosis": pd.array([code for code, _ in strata], dtype="str"),
            "archive": pd.array([archive for _, archive in strata], dtype="str"),
        }
    )
    return Dataset("drawn", table, DatasetReport(len(table), len(table), len(table), ()))


def strata_of(table: pd.DataFrame) -> pd.Series:
    return table.groupby(["diagnosis", "archive"], dropna=False).size()


@given(st.lists(STRATUM, min_size=1, max_size=60), st.integers(24, 80), st.integers(0, 5))
def test_a_sample_has_its_size_and_every_stratum(strata, n, seed):
    dataset = dataset_of(strata)
    table = stratified_sample(dataset, n, seed).table
    assert len(table) == min(n, len(strata))
    assert table["image"].is_unique
    assert strata_of(table).index.equals(strata_of(dataset.table).index)
    assert (strata_of(table) <= strata_of(dataset.table)).all()


def test_strata_keep_their_shares_beyond_the_first_image():
    dataset = dataset_of([("NV", "MSK")] * 601 + [("MEL", "MSK")] * 301 + [("DF", "MSK")])
    assert strata_of(stratified_sample(dataset, 33).table).to_dict() == {
        ("DF", "MSK"): 1, ("MEL", "MSK"): 11, ("NV", "MSK"): 21,
    }  # fmt: skip


def test_the_seed_decides_which_images():
    dataset = dataset_of([("NV", "MSK")] * 100)
    first = stratified_sample(dataset, 10, 0).table["image"].tolist()
    same_seed = stratified_sample(dataset, 10, 0).table["image"].tolist()
    other_seed = stratified_sample(dataset, 10, 1).table["image"].tolist()
    assert first == same_seed != other_seed


def test_an_image_without_one_of_the_eight_diagnoses_is_not_drawn():
    dataset = dataset_of([("NV", "MSK"), ("UNK", "MSK"), (None, "MSK")])
    assert stratified_sample(dataset, 3).table["diagnosis"].tolist() == ["NV"]


def test_rejects_fewer_images_than_strata():
    strata = [("NV", "MSK"), ("MEL", "MSK")]
    with pytest.raises(DatasetInvalid, match="one for each diagnosis of each archive"):
        stratified_sample(dataset_of(strata), 1)


def test_labels_of_malignancy_alone_are_refused(drawn_dataset):
    with pytest.raises(
        DatasetInvalid, match="Expected images with a diagnosis in drawn, but found none among 32"
    ):
        stratified_sample(replace(drawn_dataset, table=only_groups(drawn_dataset.table)), 8)
