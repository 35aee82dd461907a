import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from cadlib.__main__ import main
from cadlib.dataset import open_dataset
from cadlib.duplicates import find_duplicates
from cadlib.likeness import details_of
from cadlib.model import Model
from cadlib.record import read_record
from cadlib.suspects import KINDS, keep, kept
from cadlib.suspects.finding import find_suspects
from cadlib.suspects.labels import doubt, without_own_lesion
from cadlib.suspects.lists import COLUMNS, Suspects, findings
from cadlib.suspects.pairs import pairs


def silent(what: str, done: int, total: int) -> None:
    assert what
    assert 0 < done <= total


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def clouds():
    """Return 800 features around eight centres, their labels, and lesions of two images each."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 100)
    features = 3 * rng.normal(size=(8, 20))[labels] + rng.normal(size=(800, 20))
    return features.astype(np.float32), labels, np.arange(800) // 2


def planted(labels: np.ndarray, n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    wrong = np.random.default_rng(1).choice(len(labels), n, replace=False)
    given = labels.copy()
    given[wrong] = (given[wrong] + 3) % 8
    return given, wrong


def test_planted_errors_are_doubted_most_and_the_right_label_is_suggested(clouds):
    features, labels, lesions = clouds
    given, wrong = planted(labels)
    found = doubt(given, without_own_lesion(features, given, lesions))
    assert np.isin(np.argsort(-found.scores)[:20], wrong).mean() >= 0.9
    assert (found.suggested[wrong] == labels[wrong]).mean() >= 0.9
    assert found.doubted[wrong].mean() >= 0.6
    assert found.doubted.sum() < 40


def test_an_image_is_judged_without_any_label_of_its_lesion(clouds):
    features, labels, lesions = clouds
    others = labels.copy()
    others[lesions == 7] = 5
    before, after = (without_own_lesion(features, given, lesions) for given in (labels, others))
    np.testing.assert_allclose(before[lesions == 7], after[lesions == 7], atol=1e-12)
    assert np.abs(before - after).max() > 1e-4  # others were judged with it


def test_a_diagnosis_that_no_training_image_has_gets_no_probability(clouds):
    features, labels, lesions = clouds
    some = labels < 6
    found = without_own_lesion(features[some], labels[some], lesions[some])
    assert (found[:, 6:] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_a_score_is_how_improbable_the_label_is_and_the_best_other_is_suggested():
    probabilities = np.random.default_rng(2).dirichlet(np.ones(8), 200)
    labels = np.random.default_rng(3).integers(0, 8, 200)
    found = doubt(labels, probabilities)
    np.testing.assert_allclose(found.scores, 1 - probabilities[np.arange(200), labels])
    assert (found.suggested != labels).all()
    best = probabilities.argmax(axis=1)
    assert (found.suggested == best)[best != labels].all()


def relabel(data: Path, image: str, code: str) -> None:
    path = data / "ISIC_2019_Training_GroundTruth.csv"
    table = pd.read_csv(path).set_index("image")
    table.loc[image] = 0.0
    table.loc[image, code] = 1.0
    table.to_csv(path)


@pytest.fixture
def spoilt(drawn_dataset) -> Path:
    """Return the drawn lesions with one picture twice, under two diagnoses, a truncated and an empty file."""
    folder = Path(drawn_dataset.table["path"][0]).parent
    paths = sorted(folder.iterdir())
    shutil.copy(paths[2], paths[7])
    paths[20].write_bytes(paths[20].read_bytes()[:-2000])
    paths[21].write_bytes(b"")
    return folder.parent


@pytest.fixture
def found(spoilt, drawn_model_folder) -> Suspects:
    return find_suspects(Model.load(drawn_model_folder), drawn_model_folder, open_dataset(spoilt, verify=False), silent)


def test_a_picture_twice_and_the_contradiction_of_its_labels_are_found(found):
    twice = found.of("near-duplicates")
    assert ("ISIC_9000007", "ISIC_9000002", 1.0) in list(
        twice[["image", "other_image", "score"]].itertuples(index=False, name=None)
    )
    row = found.of("contradictions").iloc[0]
    assert {row["image"], row["other_image"]} == {"ISIC_9000007", "ISIC_9000002"}
    assert row["diagnosis"] != row["other_diagnosis"]
    assert pd.isna(row["suggested"])  # one against one
    assert row["why"] == "The files are identical; their lesion is not known."


def test_a_truncated_and_an_empty_file_are_named_with_the_reason(found):
    broken = found.of("unreadable files").set_index("image")["why"]
    assert list(broken.index) == ["ISIC_9000020", "ISIC_9000021"]
    assert "has no header that can be read" in broken["ISIC_9000021"]
    assert found.images == 30


def test_more_unreadable_files_than_a_report_shows_are_all_named(drawn_dataset, drawn_model_folder):
    paths = sorted(map(Path, drawn_dataset.table["path"]))
    for path in paths[8:16]:
        path.write_bytes(b"")
    report = open_dataset(paths[0].parents[1], verify=False).report
    assert list(report.unreadable) == [path.stem for path in paths[8:16]]


def test_labels_of_all_parts_of_the_split_are_judged(found):
    assert found.judged == found.images
    assert found.model_id.startswith("isic2019")


def test_training_images_are_never_judged_by_the_model(found, drawn_dataset):
    for row in found.of("doubted labels").itertuples():
        trained = int(row.image[-2:]) % 4 < 2
        assert row.why.startswith("A classifier fitted without this lesion" if trained else "The model, which")


def test_the_usual_diagnosis_of_a_lesion_is_suggested_for_the_image_against_it(drawn_dataset):
    table = drawn_dataset.table.copy()
    table["lesion_id"] = None
    table.loc[[0, 9, 17], ["lesion_id", "diagnosis"]] = [["L", "NV"], ["L", "NV"], ["L", "MEL"]]
    duplicates = find_duplicates(replace(drawn_dataset, table=table), silent)
    pixels = np.random.default_rng(0).integers(0, 255, (32, 64, 64, 3), dtype=np.uint8)
    [row] = [
        one
        for one in pairs(duplicates, details_of(pixels), np.eye(32, dtype=np.float32), silent)
        if one["kind"] == "contradictions" and one["score"] == 1
    ]
    assert (row["image"], row["diagnosis"], row["suggested"]) == (table["image"][17], "MEL", "NV")
    assert row["other_image"] in table["image"][[0, 9]].tolist()
    assert "both are of lesion L" in row["why"]


def test_equal_hashes_are_one_picture_only_where_the_features_are_near(drawn_dataset):
    duplicates = find_duplicates(drawn_dataset, silent)
    duplicates.table.loc[[3, 9, 20], "phash"] = np.uint64(7)
    alike = replace(
        duplicates, groups={**dict.fromkeys(duplicates.groups, ()), "near-duplicates": (np.array([3, 9, 20]),)}
    )
    pixels = np.random.default_rng(0).integers(0, 255, (32, 64, 64, 3), dtype=np.uint8)
    features = np.eye(32, dtype=np.float32)
    features[9], features[20] = features[3], -features[3]
    found = [one for one in pairs(alike, details_of(pixels), features, silent) if one["kind"] == "near-duplicates"]
    images = drawn_dataset.table["image"]
    assert {images[9], images[3]} in [{one["image"], one["other_image"]} for one in found]
    assert not any(
        {images[20], image} == {one["image"], one["other_image"]} for image in images[[3, 9]] for one in found
    )


def test_a_list_has_its_worst_finding_first():
    table = findings([{"kind": "doubted labels", "image": f"i{n}", "score": s} for n, s in enumerate((0.2, 0.9, 0.5))])
    assert table["image"].tolist() == ["i1", "i2", "i0"]
    assert list(table) == list(COLUMNS)


def test_csv_holds_every_finding(found):
    table = pd.read_csv(io.StringIO(found.to_csv()))
    assert list(table) == list(COLUMNS)
    assert table["kind"].value_counts().to_dict() == {kind: n for kind, n in found.counts.items() if n}


def test_lists_are_kept_for_the_data_set_as_it_is(found, spoilt):
    dataset = open_dataset(spoilt, verify=False)
    assert kept(dataset, found.model_id) is None
    keep(found, dataset)
    again = kept(open_dataset(spoilt, verify=False), found.model_id)
    pd.testing.assert_frame_equal(again.table, found.table)
    assert (again.judged, again.created) == (found.judged, found.created)
    assert kept(dataset, "another model") is None
    relabel(spoilt, "ISIC_9000000", "DF")
    assert kept(open_dataset(spoilt, verify=False), found.model_id) is None


def test_the_command_writes_the_lists_and_says_what_a_suspicion_is(spoilt, drawn_model_folder, tmp_path, capsys):
    file = tmp_path / "out" / "suspects.csv"
    assert main(["suspects", "--data", str(spoilt), "--model", str(drawn_model_folder), "--output", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "change nothing on this ground alone" in printed
    assert set(pd.read_csv(file)["kind"]) <= set(KINDS)
    assert kept(open_dataset(spoilt, verify=False), read_record(drawn_model_folder).model_id) is not None


def test_the_command_without_data_is_bad_usage(tmp_path, capsys):
    assert main(["suspects", "--data", str(tmp_path / "none"), "--output", str(tmp_path / "s.csv")]) == 2
    assert not (tmp_path / "s.csv").exists()


def page(folder: str, model: str, verdicts: bool = False) -> None:
    from pathlib import Path

    import streamlit as st

    from cadlib import ui
    from cadlib.dataset import open_dataset
    from cadlib.record import read_record

    record = read_record(Path(model)) if model else None
    verdict = (lambda row: st.text(row.image)) if verdicts else None
    ui.suspects(open_dataset(Path(folder), verify=False), folder, record, verdict)


def opened(folder: Path, model: Path | str, **more) -> AppTest:
    app = AppTest.from_function(page, kwargs={"folder": str(folder), "model": str(model), **more}, default_timeout=60)
    app.run()
    assert not app.exception
    return app


def test_the_page_part_says_which_command_makes_the_lists(spoilt, drawn_model_folder):
    app = opened(spoilt, drawn_model_folder)
    assert f"python -m cadlib suspects --data {spoilt} --model isic2019" in app.code[0].value


def test_the_page_part_without_a_model_says_so(spoilt):
    assert "with a model, and there is none" in opened(spoilt, "").info[0].value


def test_the_page_part_shows_a_list_at_a_time(spoilt, drawn_model_folder, found):
    keep(found, open_dataset(spoilt, verify=False))
    app = opened(spoilt, drawn_model_folder)
    control = app.segmented_control(key="page-suspects-kind")
    assert control.options == [f"{kind.capitalize()} {n:,}" for kind, n in found.counts.items()]
    control.set_value("contradictions").run()
    assert not app.exception
    text = " ".join(element.value for element in [*app.markdown, *app.caption])
    row = found.of("contradictions").iloc[0]
    assert row["diagnosis"] in text
    assert row["other_diagnosis"] in text
    assert "The files are identical" in text
    assert KINDS["contradictions"] in text
    assert sum(len(one.value) for one in app.image) == 2 * len(found.of("contradictions"))


def test_the_page_part_shows_ten_at_a_time(spoilt, drawn_model_folder):
    dataset = open_dataset(spoilt, verify=False)
    images, given = dataset.table["image"][:12], {"kind": "doubted labels", "diagnosis": "NV", "suggested": "MEL"}
    rows = [{**given, "image": image, "score": 1 - n / 100, "why": "why"} for n, image in enumerate(images)]
    keep(Suspects("d", read_record(drawn_model_folder).model_id, "now", 12, 12, findings(rows)), dataset)
    app = opened(spoilt, drawn_model_folder, verdicts=True)
    assert [text.value for text in app.text] == images[:10].tolist()
    app.get("pagination")[0].set_value(2).run()
    assert [text.value for text in app.text] == images[10:].tolist()
