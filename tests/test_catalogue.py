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

FACETS, NUMBERS = ("diagnosis", "sex"), ("age_approx", "risk", "confidence")


def drawn(n: int, seed: int) -> pd.DataFrame:
    """Return a table of n rows with missing values in every column but the id."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "image": [f"ISIC_{number:05d}" for number in rng.permutation(n)],
            "diagnosis": pd.array(rng.choice(["MEL", "NV", "BCC", None], n), "str"),
            "sex": pd.array(rng.choice(["female", "male", None], n), "str"),
            "age_approx": pd.array(rng.choice([*range(0, 90, 5), None], n), "Float64"),
            "risk": np.where(rng.random(n) < 0.1, np.nan, rng.random(n)),
            "confidence": rng.integers(0, 101, n)
            / 100,  # on the edges of what is counted together, too
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
def test_rows_and_counts_are_those_of_pandas(query, seed):
    table = drawn(200, seed)
    answer = Catalogue(table, FACETS, NUMBERS).ask(query)
    expected = table[passing(table, query)]
    if query.order:
        expected = expected.sort_values(query.order, ascending=not query.descending, kind="stable")
        numbers = table[query.order].iloc[answer.rows].to_numpy(float, na_value=np.nan)
        np.testing.assert_allclose(numbers, expected[query.order].to_numpy(float, na_value=np.nan))
        assert set(table["image"].iloc[answer.rows]) == set(expected["image"])
    else:
        assert table["image"].iloc[answer.rows].tolist() == expected["image"].tolist()
    for name in FACETS:
        counted = (
            table.loc[passing(table, query, but=name), name]
            .fillna(NOT_GIVEN)
            .value_counts()
            .to_dict()
        )
        assert {value: n for value, n in answer.counts[name].items() if n} == counted
    assert set(answer.spreads) == {"age_approx", "confidence"}
    for name, spread in answer.spreads.items():
        others = table.loc[passing(table, query, but=name), name].astype(float)
        edges = spread.low + spread.step * np.arange(len(spread.counts) + 1)
        assert spread.counts.tolist() == [
            ((others >= low - 1e-4) & (others < high - 1e-4)).sum() for low, high in pairwise(edges)
        ]
        assert spread.missing == others.isna().sum()


def test_only_rows_within_a_mask_are_found_and_counted():
    table = drawn(100, 1)
    catalogue = Catalogue(table, FACETS, NUMBERS)
    within = catalogue.holds(table["image"][:30].tolist())
    query = Query(chosen={"sex": ("female",)})
    answer = catalogue.ask(query, within)
    alone = Catalogue(table[:30], FACETS, NUMBERS).ask(query)
    assert answer.rows.tolist() == alone.rows.tolist()
    assert {name: sum(counts.values()) for name, counts in answer.counts.items()} == {
        name: sum(counts.values()) for name, counts in alone.counts.items()
    }


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="Expected columns site in the table"):
        Catalogue(drawn(5, 0), ("site",), ())
    with pytest.raises(
        ValueError, match="Expected facets and numbers of this catalogue .* but got loss"
    ):
        Catalogue(drawn(5, 0), FACETS, NUMBERS).ask(Query(order="loss"))


def test_a_facet_of_one_value_and_a_number_that_is_the_same_everywhere_are_none():
    table = drawn(20, 0).assign(sex="female", age_approx=50.0)
    catalogue = Catalogue(table, FACETS, NUMBERS)
    assert catalogue.facets == ("diagnosis",)
    assert catalogue.span("age_approx") is None
    assert catalogue.values("diagnosis")[-1] == NOT_GIVEN


def test_predictions_become_columns():
    shares = np.full((3, 8), 0.05)
    shares[0, CODES.index("MEL")] = shares[1, CODES.index("NV")] = shares[2, CODES.index("BCC")] = (
        0.65
    )
    table = pd.DataFrame(
        {
            "image": ["a", "b", "c", "d"],
            "diagnosis": pd.array(["MEL", "MEL", None, "NV"], "str"),
            "width_px": pd.array([600, 600, 600, 1024], "Int64"),
            "height_px": pd.array([450, 450, 450, 767], "Int64"),
        }
    )
    scores = [0.4, 1.0, 3.0]
    predictions = predictions_table(
        table["image"][:3], shares, [Novelty(score).unknown_share for score in scores]
    )
    split = pd.DataFrame({"image": ["a", "c"], "split": ["train", "test"]})
    found = described(table, split, predictions).table.set_index("image")
    assert found["split"].fillna("").to_dict() == {"a": "train", "b": "", "c": "test", "d": ""}
    assert found["said"].fillna("").to_dict() == {"a": "MEL", "b": "NV", "c": "BCC", "d": ""}
    assert found["verdict"].fillna("").to_dict() == {"a": "right", "b": "wrong", "c": "", "d": ""}
    assert found["short_side_px"].tolist() == [450, 450, 450, 767]
    malignant = 0.65 + 3 * 0.05
    np.testing.assert_allclose(found["risk"], [malignant, 0.2, malignant, np.nan])
    np.testing.assert_allclose(found["confidence"], [0.65, 0.65, 0.65, np.nan])
    np.testing.assert_allclose(found["loss"], [-np.log(0.65), -np.log(0.05), np.nan, np.nan])
    entropy = -(0.65 * np.log(0.65) + 7 * 0.05 * np.log(0.05)) / np.log(8)
    np.testing.assert_allclose(found["uncertainty"], [entropy, entropy, entropy, np.nan])
    np.testing.assert_allclose(
        found["novelty"], [*scores, np.nan]
    )  # as `predict` writes it, with the limit 1


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
    found = described(table, None, predictions_table(table["image"], shares)).table
    assert found["malignancy"].tolist() == ["malignant", "benign", "benign"]
    assert found["verdict"].fillna("").tolist() == ["", "", "wrong"]
    risk = 0.65 + 3 * 0.05
    np.testing.assert_allclose(found["loss"], [-np.log(risk), -np.log(1 - risk), -np.log(0.05)])
