from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadlib.data.predictions_csv import predictions_table
from cadlib.evaluation.catalogue import NOT_GIVEN, Catalogue, Query, described
from cadlib.model.novelty import Novelty
from cadlib.taxonomy import CODES

FACETS = ("diagnosis", "sex")
NUMBERS = ("age_approx", "risk", "confidence")


def random_table(n: int, seed: int) -> pd.DataFrame:
    """Return a table of n rows with missing values in every column but the id."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "image": [f"ISIC_{number:05d}" for number in rng.permutation(n)],
            "diagnosis": pd.array(rng.choice(["MEL", "NV", "BCC", None], n), "str"),
            "sex": pd.array(rng.choice(["female", "male", None], n), "str"),
            "age_approx": pd.array(rng.choice([*range(0, 90, 5), None], n), "Float64"),
            "risk": np.where(rng.random(n) < 0.1, np.nan, rng.random(n)),
            # Some values lie on the edges of the bins.
            "confidence": rng.integers(0, 101, n) / 100,
        }
    )


def passing(table: pd.DataFrame, query: Query, but: str = "") -> "pd.Series[bool]":
    """Return which rows pass a query, but for the condition on one column, by pandas."""
    passed = pd.Series(True, table.index)
    for name, values in query.chosen.items():
        if values and name != but:
            passed &= table[name].fillna(NOT_GIVEN).isin(values)
    for name, (low, high) in query.ranges.items():
        if name != but:
            passed &= table[name].between(low, high).fillna(False).astype(bool)
    return passed & table["image"].str.contains(query.text, case=False, regex=False)


queries = st.builds(
    Query,
    chosen=st.fixed_dictionaries(
        {
            "diagnosis": st.lists(
                st.sampled_from(["MEL", "NV", "BCC", NOT_GIVEN]), unique=True
            ).map(tuple),
            "sex": st.lists(st.sampled_from(["female", "male", NOT_GIVEN]), unique=True).map(tuple),
        }
    ),
    ranges=st.one_of(
        st.just({}),
        st.just({"age_approx": (20.0, 60.0)}),
        st.just({"risk": (0.25, 1.0), "confidence": (0.3, 0.8)}),
    ),
    text=st.sampled_from(["", "isic", "00", "ISIC_0001", "no such id"]),
    order=st.sampled_from(["", "risk", "age_approx"]),
    descending=st.booleans(),
)


@given(queries, st.integers(0, 5))
def test_the_rows_are_those_of_pandas(query, seed):
    table = random_table(200, seed)
    result = Catalogue(table, FACETS, NUMBERS).ask(query)
    expected = table[passing(table, query)]
    rows = table.iloc[result.rows]
    if query.order:
        expected = expected.sort_values(query.order, ascending=not query.descending, kind="stable")
        numbers = rows[query.order].to_numpy(float, na_value=np.nan)
        np.testing.assert_allclose(numbers, expected[query.order].to_numpy(float, na_value=np.nan))
        assert set(rows["image"]) == set(expected["image"])
    else:
        assert rows["image"].tolist() == expected["image"].tolist()


@given(queries, st.integers(0, 5))
def test_the_counts_of_a_facet_are_those_of_pandas(query, seed):
    table = random_table(200, seed)
    result = Catalogue(table, FACETS, NUMBERS).ask(query)
    for name in FACETS:
        values = table.loc[passing(table, query, but=name), name]
        expected = values.fillna(NOT_GIVEN).value_counts().to_dict()
        assert {value: n for value, n in result.counts[name].items() if n} == expected


@given(queries, st.integers(0, 5))
def test_the_bins_of_a_range_are_those_of_pandas(query, seed):
    table = random_table(200, seed)
    result = Catalogue(table, FACETS, NUMBERS).ask(query)
    assert set(result.spreads) == {"age_approx", "confidence"}
    for name, spread in result.spreads.items():
        values = table.loc[passing(table, query, but=name), name].astype(float)
        edges = spread.low + spread.step * np.arange(len(spread.counts) + 1)
        for count, (low, high) in zip(spread.counts.tolist(), pairwise(edges), strict=True):
            assert count == ((values >= low - 1e-4) & (values < high - 1e-4)).sum()
        assert spread.missing == values.isna().sum()


def test_only_rows_within_a_mask_are_found_and_counted():
    table = random_table(100, 1)
    catalogue = Catalogue(table, FACETS, NUMBERS)
    within = catalogue.holds(table["image"][:30].tolist())
    query = Query(chosen={"sex": ("female",)})
    result = catalogue.ask(query, within)
    alone = Catalogue(table[:30], FACETS, NUMBERS).ask(query)
    assert result.rows.tolist() == alone.rows.tolist()
    assert {name: sum(counts.values()) for name, counts in result.counts.items()} == {
        name: sum(counts.values()) for name, counts in alone.counts.items()
    }


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="Expected columns site in the table"):
        Catalogue(random_table(5, 0), ("site",), ())
    with pytest.raises(
        ValueError, match="Expected facets and numbers of this catalogue .* but got loss"
    ):
        Catalogue(random_table(5, 0), FACETS, NUMBERS).ask(Query(order="loss"))


def test_a_facet_of_one_value_and_a_number_that_is_the_same_everywhere_are_none():
    table = random_table(20, 0).assign(sex="female", age_approx=50.0)
    catalogue = Catalogue(table, FACETS, NUMBERS)
    assert catalogue.facets == ("diagnosis",)
    assert catalogue.span("age_approx") is None
    assert catalogue.values("diagnosis")[-1] == NOT_GIVEN


@pytest.fixture
def columns():
    """Return the columns of four images, of which three have a prediction."""
    shares = np.full((3, 8), 0.05)
    for row, code in enumerate(("MEL", "NV", "BCC")):
        shares[row, CODES.index(code)] = 0.65
    table = pd.DataFrame(
        {
            "image": ["a", "b", "c", "d"],
            "diagnosis": pd.array(["MEL", "MEL", None, "NV"], "str"),
            "width_px": pd.array([600, 600, 600, 1024], "Int64"),
            "height_px": pd.array([450, 450, 450, 767], "Int64"),
        }
    )
    unknown_shares = [Novelty(score).unknown_share for score in NOVELTY_SCORES]
    predictions = predictions_table(table["image"][:3], shares, unknown_shares)
    split = pd.DataFrame({"image": ["a", "c"], "split": ["train", "test"]})
    return described(table, split, predictions).table.set_index("image")


def test_predictions_and_splits_become_facets(columns):
    assert columns["split"].fillna("").to_dict() == {"a": "train", "b": "", "c": "test", "d": ""}
    assert columns["said"].fillna("").to_dict() == {"a": "MEL", "b": "NV", "c": "BCC", "d": ""}
    assert columns["verdict"].fillna("").to_dict() == {"a": "right", "b": "wrong", "c": "", "d": ""}
    assert columns["short_side_px"].tolist() == [450, 450, 450, 767]


NOVELTY_SCORES = [0.4, 1.0, 3.0]


def test_predictions_become_columns_of_numbers(columns):
    malignant = 0.65 + 3 * 0.05
    np.testing.assert_allclose(columns["risk"], [malignant, 0.2, malignant, np.nan])
    np.testing.assert_allclose(columns["confidence"], [0.65, 0.65, 0.65, np.nan])
    np.testing.assert_allclose(columns["loss"], [-np.log(0.65), -np.log(0.05), np.nan, np.nan])
    entropy = -(0.65 * np.log(0.65) + 7 * 0.05 * np.log(0.05)) / np.log(8)
    np.testing.assert_allclose(columns["uncertainty"], [entropy, entropy, entropy, np.nan])
    # The novelty has the limit 1, as in the output of `predict`.
    np.testing.assert_allclose(columns["novelty"], [*NOVELTY_SCORES, np.nan])


def test_a_label_without_a_diagnosis_has_a_group_and_a_loss():
    shares = np.full((3, 8), 0.05)
    shares[:, CODES.index("MEL")] = 0.65
    table = pd.DataFrame(
        {
            "image": ["a", "b", "c"],
            "diagnosis": pd.array([None, None, "NV"], "str"),
            "malignant": pd.array([True, False, None], "boolean"),
            "width_px": pd.array([600] * 3, "Int64"),
            "height_px": pd.array([450] * 3, "Int64"),
        }
    )
    columns = described(table, None, predictions_table(table["image"], shares)).table
    assert columns["malignancy"].tolist() == ["malignant", "benign", "benign"]
    assert columns["verdict"].fillna("").tolist() == ["", "", "wrong"]
    risk = 0.65 + 3 * 0.05
    np.testing.assert_allclose(columns["loss"], [-np.log(risk), -np.log(1 - risk), -np.log(0.05)])
