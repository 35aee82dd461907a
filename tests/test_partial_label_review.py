"""Data review on labels that are only malignant or benign."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cadlib.data.duplicates import find_duplicates
from cadlib.label_review import Finding, cleaned, kept_at, said_now
from cadlib.label_review.doubtful_labels import doubt
from cadlib.label_review.search import find_suspects
from cadlib.metrics.partial_labels import label_words, labels_contradict
from cadlib.model.model import Model
from tests import partial_labels

pytestmark = pytest.mark.usefixtures("empty_cache")


def silent(*_):
    pass


@pytest.mark.parametrize(
    ("labels", "contradict"),
    [
        (["MEL", "NV"], True),
        (["MEL", "BCC"], True),
        (["malignant", "benign"], True),
        (["MEL", "benign"], True),
        (["NV", "malignant"], True),
        (["UNK", "NV"], True),
        (["MEL", "malignant"], False),
        (["NV", "benign", "NV"], False),
        (["UNK", "benign"], False),
        (["benign", "benign"], False),
        ([], False),
    ],
)
def test_labels_contradict_that_cannot_both_be_true(labels, contradict):
    assert labels_contradict(labels) is contradict
    assert labels_contradict(reversed(labels)) is contradict


@pytest.fixture
def copied(drawn_dataset):
    """Return the drawn lesions without a diagnosis, of which a malignant one is also there as a benign one."""
    table = partial_labels.only_groups(drawn_dataset.table)
    is_malignant = table["malignant"].astype(bool)
    malignant = table.index[is_malignant][0]
    benign = table.index[~is_malignant][0]
    shutil.copy(table["path"][malignant], table["path"][benign])
    return replace(drawn_dataset, table=table), set(table["image"][[malignant, benign]])


def test_identical_files_that_are_malignant_and_benign_contradict_each_other(
    copied, drawn_model_folder
):
    dataset, pair = copied
    duplicates = find_duplicates(dataset, silent)
    (rows,) = duplicates.contradictions("identical files")
    assert set(duplicates.table["image"].iloc[rows]) == pair
    assert "malignant" in duplicates.named(rows)
    suspects = find_suspects(Model.load(drawn_model_folder), drawn_model_folder, dataset, silent)
    contradiction = suspects.of("contradictions").iloc[0]
    assert {contradiction["image"], contradiction["other_image"]} == pair
    assert {contradiction["diagnosis"], contradiction["other_diagnosis"]} == {"malignant", "benign"}
    assert suspects.judged == 16  # as many as the model was not trained on


def test_a_wrong_group_is_doubted():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 300)
    risk = np.clip(0.5 + 0.4 * (2 * truth - 1) + 0.05 * rng.normal(size=300), 0.01, 0.99)
    wrong_labels = truth.copy()
    wrong_labels[:5] = 1 - wrong_labels[:5]
    doubts = doubt(wrong_labels, np.stack([1 - risk, risk], axis=1))
    assert set(np.argsort(-doubts.scores)[:5]) == set(range(5))
    assert doubts.doubted[:5].sum() >= 4
    assert not doubts.doubted[5:].any()
    assert (doubts.suggested[:5] == truth[:5]).all()


def test_a_group_that_was_judged_wrong_leaves_the_clean_images(drawn_dataset):
    table = partial_labels.only_groups(drawn_dataset.table)
    image = table["image"][0]
    verdicts = {
        Finding("doubted labels", image, diagnosis=label_words(table)[0]): said_now(
            "label is wrong", ""
        )
    }
    assert set(table["image"]) - {*cleaned(table, verdicts)} == {image}


def test_lists_are_rebuilt_after_a_changed_group(drawn_dataset):
    table = partial_labels.only_groups(drawn_dataset.table)
    inverted = table.assign(malignant=~table["malignant"])
    places = {
        kept_at(replace(drawn_dataset, table=changed), "model")
        for changed in (table, inverted, drawn_dataset.table)
    }
    assert len(places) == 3


def test_an_unreadable_file_has_its_group(drawn_dataset, drawn_model_folder):
    dataset = replace(drawn_dataset, table=partial_labels.only_groups(drawn_dataset.table))
    Path(dataset.table["path"][0]).write_bytes(b"")
    suspects = find_suspects(Model.load(drawn_model_folder), drawn_model_folder, dataset, silent)
    assert suspects.of("unreadable files")["diagnosis"].tolist() == ["malignant"]
    assert pd.notna(suspects.table["diagnosis"]).all()
