import numpy as np
import pandas as pd
import pytest

from cadlib.data.predictions_csv import (
    join_predictions,
    predictions_table,
    read_predictions,
    read_unknown,
)
from cadlib.errors import DatasetInvalid
from cadlib.taxonomy import CODES

IDS = pd.Series(["ISIC_0000001", "ISIC_0000002", "ISIC_0000003"])


@pytest.fixture
def shares():
    return np.random.default_rng(0).dirichlet(np.ones(8), 3)


@pytest.fixture
def predictions_path(tmp_path, shares):
    path = tmp_path / "predictions.csv"
    predictions_table(IDS, shares).to_csv(path, index=False)
    return path


@pytest.fixture
def truth(tmp_path):
    path = tmp_path / "truth.csv"
    labels = pd.DataFrame(np.eye(8)[[0, 1]], columns=list(CODES)).assign(UNK=0.0)
    labels.insert(0, "image", IDS[:2])
    labels.to_csv(path, index=False)
    return path


def test_predictions_are_read_back_exactly(predictions_path, shares):
    read = read_predictions(predictions_path)
    assert read.index.tolist() == IDS.tolist()
    assert np.array_equal(read.to_numpy(), shares)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: table.drop(columns="SCC"), "SCC"),
        (lambda table: pd.concat([table, table]), "repeated"),
        (lambda table: table.assign(MEL=0.9), "sum to 1"),
        (lambda table: table.assign(MEL=None), "sum to 1"),
        (lambda table: table.assign(MEL="much"), "sum to 1"),
    ],
)
def test_refuses_invalid_predictions(predictions_path, spoil, message):
    spoil(pd.read_csv(predictions_path)).to_csv(predictions_path, index=False)
    with pytest.raises(DatasetInvalid, match=message):
        read_predictions(predictions_path)


def test_unk_is_written_and_read_beside_the_eight_and_changes_none_of_them(tmp_path, shares):
    path = tmp_path / "predictions.csv"
    predictions_table(IDS, shares, [0.0, 0.25, 0.99]).to_csv(path, index=False)
    assert read_unknown(path).to_dict() == dict(zip(IDS, [0.0, 0.25, 0.99], strict=True))
    assert np.array_equal(read_predictions(path).to_numpy(), shares)


def test_a_file_without_unk_counts_as_known(predictions_path):
    pd.read_csv(predictions_path).drop(columns="UNK").to_csv(predictions_path, index=False)
    assert (read_unknown(predictions_path) == 0).all()


@pytest.mark.parametrize("value", [1.5, -0.1, "much", None])
def test_refuses_an_unk_that_is_no_share(predictions_path, value):
    pd.read_csv(predictions_path).assign(UNK=value).to_csv(predictions_path, index=False)
    with pytest.raises(DatasetInvalid, match="UNK from 0 to 1"):
        read_unknown(predictions_path)


def test_each_prediction_is_joined_with_its_label(predictions_path, truth, shares):
    dataset, joined = join_predictions(predictions_path, truth)
    assert dataset.table["image"].tolist() == IDS.tolist()
    assert dataset.table["diagnosis"].fillna("none").tolist() == ["MEL", "NV", "none"]
    assert np.array_equal(joined, shares)
    assert dataset.report.count("images without ground truth") == 1
    assert dataset.table["width_px"].isna().all()


def test_metadata_bring_lesion_archive_age_and_sex(predictions_path, truth, tmp_path):
    facts = tmp_path / "facts.csv"
    facts.write_text(
        "image,age_approx,anatom_site_general,lesion_id,sex\nISIC_0000002,50,head/neck,HAM_1,male\n"
    )
    table = join_predictions(predictions_path, truth, facts)[0].table
    assert table["archive"].fillna("none").tolist() == ["none", "HAM10000", "none"]
    assert table["age_approx"].tolist()[1] == 50


def test_labels_of_other_images_are_refused(predictions_path, tmp_path):
    other_truth = tmp_path / "other.csv"
    other_truth.write_text(f"image,{','.join(CODES)}\nISIC_9,1,0,0,0,0,0,0,0\n")
    with pytest.raises(DatasetInvalid, match="none of its 3 images has a label"):
        join_predictions(predictions_path, other_truth)
