import io
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from cadlib import command_hints, jobs
from cadlib.__main__ import main
from cadlib.data.dataset import open_dataset
from cadlib.data.duplicates import find_duplicates
from cadlib.data.pixel_similarity import details_of
from cadlib.data.subsets import read_subset
from cadlib.errors import VerdictsInvalid
from cadlib.label_review import (
    KINDS,
    Finding,
    keep,
    kept,
    kept_at,
    read_verdicts,
    said_now,
    save_verdict,
)
from cadlib.label_review.doubtful_labels import doubt, without_own_lesion
from cadlib.label_review.lists import COLUMNS, Suspects, findings
from cadlib.label_review.pairs import pairs
from cadlib.label_review.search import find_suspects
from cadlib.model.model import Model
from cadlib.model.record import read_record
from cadlib.ui.suspects import SHOWN_KINDS
from tests.progress_check import check_progress
from tests.tiny_training import flags

pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.fixture(scope="module")
def clouds():
    """Return 800 features around eight centres, their labels, and lesions of two images each."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 100)
    features = 3 * rng.normal(size=(8, 20))[labels] + rng.normal(size=(800, 20))
    return features.astype(np.float32), labels, np.arange(800) // 2


def plant_errors(labels: np.ndarray, n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    wrong = np.random.default_rng(1).choice(len(labels), n, replace=False)
    wrong_labels = labels.copy()
    wrong_labels[wrong] = (wrong_labels[wrong] + 3) % 8
    return wrong_labels, wrong


def test_planted_errors_are_doubted_most_and_the_right_label_is_suggested(clouds):
    features, labels, lesions = clouds
    planted_labels, wrong_rows = plant_errors(labels)
    doubts = doubt(planted_labels, without_own_lesion(features, planted_labels, lesions))
    assert np.isin(np.argsort(-doubts.scores)[:20], wrong_rows).mean() >= 0.9
    assert (doubts.suggested[wrong_rows] == labels[wrong_rows]).mean() >= 0.9
    assert doubts.doubted[wrong_rows].mean() >= 0.6
    assert doubts.doubted.sum() < 40


def test_an_image_is_judged_without_any_label_of_its_lesion(clouds):
    features, labels, lesions = clouds
    relabelled = labels.copy()
    relabelled[lesions == 7] = 5
    probabilities = without_own_lesion(features, labels, lesions)
    probabilities_relabelled = without_own_lesion(features, relabelled, lesions)
    np.testing.assert_allclose(
        probabilities[lesions == 7], probabilities_relabelled[lesions == 7], atol=1e-12
    )
    assert (
        np.abs(probabilities - probabilities_relabelled).max() > 1e-4
    )  # others were judged with it


def test_a_diagnosis_that_no_training_image_has_gets_no_probability(clouds):
    features, labels, lesions = clouds
    frequent = labels < 6
    probabilities = without_own_lesion(features[frequent], labels[frequent], lesions[frequent])
    assert (probabilities[:, 6:] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_probabilities_do_not_depend_on_rounding_of_features(clouds):
    features, labels, lesions = clouds
    from_float32 = without_own_lesion(features, labels, lesions)
    from_float64 = without_own_lesion(features.astype(np.float64), labels, lesions)
    np.testing.assert_array_equal(from_float32, from_float64)


def test_a_score_is_one_minus_the_probability_of_the_label_and_the_best_other_class_is_suggested():
    probabilities = np.random.default_rng(2).dirichlet(np.ones(8), 200)
    labels = np.random.default_rng(3).integers(0, 8, 200)
    doubts = doubt(labels, probabilities)
    np.testing.assert_allclose(doubts.scores, 1 - probabilities[np.arange(200), labels])
    assert (doubts.suggested != labels).all()
    best = probabilities.argmax(axis=1)
    assert (doubts.suggested == best)[best != labels].all()


def relabel(data: Path, image: str, code: str) -> None:
    path = data / "ISIC_2019_Training_GroundTruth.csv"
    table = pd.read_csv(path).set_index("image")
    table.loc[image] = 0.0
    table.loc[image, code] = 1.0
    table.to_csv(path)


@pytest.fixture
def damaged_folder(drawn_dataset) -> Path:
    """Return the drawn lesions with one picture twice, under two diagnoses, a truncated and an empty file."""
    folder = Path(drawn_dataset.table["path"][0]).parent
    paths = sorted(folder.iterdir())
    shutil.copy(paths[2], paths[7])
    paths[20].write_bytes(paths[20].read_bytes()[:-2000])
    paths[21].write_bytes(b"")
    return folder.parent


@pytest.fixture
def suspects(damaged_folder, drawn_model_folder) -> Suspects:
    return find_suspects(
        Model.load(drawn_model_folder),
        drawn_model_folder,
        open_dataset(damaged_folder, verify=False),
        check_progress,
    )


def test_a_picture_twice_and_the_contradiction_of_its_labels_are_found(suspects):
    duplicates = suspects.of("near-duplicates")
    assert ("ISIC_9000007", "ISIC_9000002", 1.0) in list(
        duplicates[["image", "other_image", "score"]].itertuples(index=False, name=None)
    )
    row = suspects.of("contradictions").iloc[0]
    assert {row["image"], row["other_image"]} == {"ISIC_9000007", "ISIC_9000002"}
    assert row["diagnosis"] != row["other_diagnosis"]
    assert pd.isna(row["suggested"])  # one against one
    assert row["why"] == "The files are identical; their lesion is not known."


def test_a_truncated_and_an_empty_file_are_named_with_the_reason(suspects):
    reasons = suspects.of("unreadable files").set_index("image")["why"]
    assert list(reasons.index) == ["ISIC_9000020", "ISIC_9000021"]
    assert "has no header that can be read" in reasons["ISIC_9000021"]
    assert suspects.images == 30


def test_more_unreadable_files_than_a_report_shows_are_all_named(drawn_dataset, drawn_model_folder):
    paths = sorted(map(Path, drawn_dataset.table["path"]))
    for path in paths[8:16]:
        path.write_bytes(b"")
    report = open_dataset(paths[0].parents[1], verify=False).report
    assert list(report.unreadable) == [path.stem for path in paths[8:16]]


def test_labels_of_all_parts_of_the_split_are_judged(suspects):
    assert suspects.judged == suspects.images
    assert suspects.model_id.startswith("isic2019")


def test_training_images_are_never_judged_by_the_model(suspects, drawn_dataset):
    for row in suspects.of("doubted labels").itertuples():
        trained = int(row.image[-2:]) % 4 < 2
        assert row.why.startswith(
            "A classifier fitted without this lesion" if trained else "The model, which"
        )


def test_the_usual_diagnosis_of_a_lesion_is_suggested_for_the_image_against_it(drawn_dataset):
    table = drawn_dataset.table.copy()
    table["lesion_id"] = None
    table.loc[[0, 9, 17], ["lesion_id", "diagnosis"]] = [["L", "NV"], ["L", "NV"], ["L", "MEL"]]
    duplicates = find_duplicates(replace(drawn_dataset, table=table), check_progress)
    pixels = np.random.default_rng(0).integers(0, 255, (32, 64, 64, 3), dtype=np.uint8)
    features = np.eye(32, dtype=np.float32)
    rows = pairs(duplicates, details_of(pixels), features, check_progress)
    contradictions = [row for row in rows if row["kind"] == "contradictions"]
    [row] = [row for row in contradictions if row["score"] == 1]
    assert (row["image"], row["diagnosis"], row["suggested"]) == (table["image"][17], "MEL", "NV")
    assert row["other_image"] in table["image"][[0, 9]].tolist()
    assert "both are of lesion L" in row["why"]


def test_equal_hashes_are_one_picture_only_where_the_features_are_near(drawn_dataset):
    duplicates = find_duplicates(drawn_dataset, check_progress)
    duplicates.table.loc[[3, 9, 20], "phash"] = np.uint64(7)
    groups = dict.fromkeys(duplicates.groups, ())
    groups["near-duplicates"] = (np.array([3, 9, 20]),)
    alike = replace(duplicates, groups=groups)
    pixels = np.random.default_rng(0).integers(0, 255, (32, 64, 64, 3), dtype=np.uint8)
    features = np.eye(32, dtype=np.float32)
    features[9] = features[3]
    features[20] = -features[3]
    rows = pairs(alike, details_of(pixels), features, check_progress)
    near_duplicates = image_pairs(rows, "near-duplicates")
    images = drawn_dataset.table["image"]
    assert {images[9], images[3]} in near_duplicates
    assert {images[20], images[3]} not in near_duplicates
    assert {images[20], images[9]} not in near_duplicates


def image_pairs(rows, kind: str) -> list[set[str]]:
    """Return the images of each finding of one kind."""
    return [{row["image"], row["other_image"]} for row in rows if row["kind"] == kind]


def test_a_list_has_its_worst_finding_first():
    table = findings(
        [
            {"kind": "doubted labels", "image": f"i{n}", "score": s}
            for n, s in enumerate((0.2, 0.9, 0.5))
        ]
    )
    assert table["image"].tolist() == ["i1", "i2", "i0"]
    assert list(table) == list(COLUMNS)


def test_csv_holds_every_finding(suspects):
    table = pd.read_csv(io.StringIO(suspects.to_csv()))
    assert list(table) == list(COLUMNS)
    assert table["kind"].value_counts().to_dict() == {
        kind: n for kind, n in suspects.counts.items() if n
    }


def test_lists_are_kept_for_the_data_set_as_it_is(suspects, damaged_folder):
    dataset = open_dataset(damaged_folder, verify=False)
    assert kept(dataset, suspects.model_id) is None
    keep(suspects, dataset)
    read_again = kept(open_dataset(damaged_folder, verify=False), suspects.model_id)
    pd.testing.assert_frame_equal(read_again.table, suspects.table)
    assert (read_again.judged, read_again.created) == (suspects.judged, suspects.created)
    assert kept(dataset, "another model") is None
    relabel(damaged_folder, "ISIC_9000000", "DF")
    assert kept(open_dataset(damaged_folder, verify=False), suspects.model_id) is None


def test_the_command_writes_the_lists_and_explains_them(
    damaged_folder, drawn_model_folder, tmp_path, capsys
):
    file = tmp_path / "out" / "suspects.csv"
    where = {"data": damaged_folder, "model": drawn_model_folder, "output": file}
    assert main(["suspects", *flags(where)]) == 0
    printed = capsys.readouterr().out
    assert "do not change a label for this reason alone" in printed
    assert set(pd.read_csv(file)["kind"]) <= set(KINDS)
    assert (
        kept(open_dataset(damaged_folder, verify=False), read_record(drawn_model_folder).model_id)
        is not None
    )


def test_the_command_without_data_is_bad_usage(tmp_path, capsys):
    assert (
        main(["suspects", "--data", str(tmp_path / "none"), "--output", str(tmp_path / "s.csv")])
        == 2
    )
    assert not (tmp_path / "s.csv").exists()


def test_the_command_writes_and_counts_the_verdicts(
    damaged_folder, drawn_model_folder, tmp_path, capsys
):
    finding = Finding("unreadable files", "ISIC_9000021")
    save_verdict(damaged_folder.name, finding, said_now("fetch again"))
    file = tmp_path / "suspects.csv"
    where = {"data": damaged_folder, "model": drawn_model_folder, "output": file}
    assert main(["suspects", *flags(where)]) == 0
    assert "       2  unreadable files, 1 done\n" in capsys.readouterr().out
    table = pd.read_csv(file)
    assert list(table) == [*COLUMNS, "verdict", "should_be", "when_utc"]
    [row] = table[table["verdict"].notna()].itertuples()
    assert (row.image, row.verdict) == (finding.image, "fetch again")
    assert pd.isna(row.should_be)
    assert pd.Timestamp(row.when_utc).tz is not None


def test_the_command_checks_the_verdicts_before_any_work(
    damaged_folder, tmp_path, verdicts_folder, capsys
):
    verdicts_folder.mkdir()
    (verdicts_folder / f"{damaged_folder.name}.csv").write_text("image\n")
    file = tmp_path / "suspects.csv"
    assert main(["suspects", "--data", str(damaged_folder), "--output", str(file)]) == 1
    assert f"{damaged_folder.name}.csv, line 1: Expected the columns" in capsys.readouterr().err
    assert not file.exists()


def page(folder: str, model: str) -> None:
    from pathlib import Path

    from cadlib import ui
    from cadlib.data.dataset import open_dataset
    from cadlib.model.record import read_record

    record = read_record(Path(model)) if model else None
    ui.suspects(open_dataset(Path(folder), verify=False), folder, record)


def open_app(folder: Path, model: Path | str) -> AppTest:
    app = AppTest.from_function(
        page, kwargs={"folder": str(folder), "model": str(model)}, default_timeout=60
    )
    return run(app)


def run(element: Any) -> AppTest:
    """Run an app after a change to one of its elements."""
    app: AppTest = element.run()
    assert not app.exception
    return app


def test_the_page_part_makes_the_lists_in_the_background(
    damaged_folder, drawn_model_folder, tmp_path, monkeypatch
):
    shutil.copytree(drawn_model_folder, tmp_path / "models" / "isic2019")
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    app = open_app(damaged_folder, drawn_model_folder)
    run(app.button(key="make-suspects").click())
    dataset = open_dataset(damaged_folder, verify=False)
    model_id = read_record(drawn_model_folder).model_id
    job = jobs.find(f"suspects-{kept_at(dataset, model_id).stem}")
    deadline = time.monotonic() + 60
    while not job.ended:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert job.state == "done", job.reason
    assert job.what.startswith("images · ")
    run(app)
    assert kept(dataset, model_id) is not None
    assert app.segmented_control(key="page-suspects-kind").options[-1] == "Unreadable files 2"


def test_a_search_for_suspects_can_be_stopped_and_restarted(damaged_folder, drawn_model_folder):
    dataset = open_dataset(damaged_folder, verify=False)
    model_id = read_record(drawn_model_folder).model_id
    key = f"suspects-{kept_at(dataset, model_id).stem}"
    gate = threading.Event()

    def work(say) -> None:
        while not gate.wait(0.01):
            say("images · hashing", 3, 32)

    job = jobs.start(key, work)
    while not job.done:
        time.sleep(0.01)
    app = open_app(damaged_folder, drawn_model_folder)
    assert not [button for button in app.button if button.key == "make-suspects"]
    assert app.get("progress")[0].proto.text.startswith("Lists: 3 of 32 images · hashing")
    app.button(key=f"stop-{key}").click().run()
    while not job.ended:
        time.sleep(0.01)
    run(app)
    assert app.button(key="make-suspects")
    assert "Stopped" in app.caption[0].value


def test_the_page_shows_the_command_for_the_lists(damaged_folder, drawn_model_folder):
    app = open_app(damaged_folder, drawn_model_folder)
    assert (
        f"python -m cadlib suspects --data {damaged_folder} --model isic2019" in app.code[0].value
    )


def test_the_page_reports_a_missing_model(damaged_folder):
    assert "need a model, and none is available" in open_app(damaged_folder, "").info[0].value


def test_the_page_part_shows_a_list_at_a_time(damaged_folder, drawn_model_folder, suspects):
    keep(suspects, open_dataset(damaged_folder, verify=False))
    app = open_app(damaged_folder, drawn_model_folder)
    control = app.segmented_control(key="page-suspects-kind")
    assert control.options == [
        f"{SHOWN_KINDS.get(kind, kind).capitalize()} {n:,}" for kind, n in suspects.counts.items()
    ]
    control.set_value("contradictions").run()
    assert not app.exception
    text = " ".join(element.value for element in [*app.markdown, *app.caption])
    row = suspects.of("contradictions").iloc[0]
    assert row["diagnosis"] in text
    assert row["other_diagnosis"] in text
    assert "The files are identical" in text
    assert KINDS["contradictions"] in text
    n_images = sum(len(image.value) for image in app.image)
    assert n_images == 2 * len(suspects.of("contradictions"))


@pytest.fixture
def doubted(damaged_folder, drawn_model_folder) -> list[str]:
    """Return the images whose labels are doubted in lists that are kept, the worst first."""
    dataset = open_dataset(damaged_folder, verify=False)
    images = dataset.table["image"][:12]
    doubt_of_label = {"kind": "doubted labels", "diagnosis": "NV", "suggested": "MEL"}
    rows = [
        {**doubt_of_label, "image": image, "score": 1 - n / 100, "why": "why"}
        for n, image in enumerate(images)
    ]
    pair = {
        "kind": "near-duplicates",
        "image": "ISIC_9000005",
        "other_image": "ISIC_9000003",
        "score": 1.0,
        "why": "w",
    }
    suspects = findings([*rows, pair])
    keep(
        Suspects(dataset.name, read_record(drawn_model_folder).model_id, "now", 12, 12, suspects),
        dataset,
    )
    return images.tolist()


def images_shown(app: AppTest) -> list[str]:
    """Return the images that the page shows of a list of single images."""
    start = "label is right-doubted labels-"
    return [button.key.removeprefix(start) for button in app.button if button.key.startswith(start)]


def verdicts_on(folder: Path) -> dict[str, tuple[str, str]]:
    verdicts = read_verdicts(folder.name).items()
    return {finding.image: (verdict.verdict, verdict.should_be) for finding, verdict in verdicts}


def press(app: AppTest, words: str, image: str) -> AppTest:
    return run(app.button(key=f"{words}-doubted labels-{image}").click())


def test_the_page_part_shows_ten_at_a_time(damaged_folder, drawn_model_folder, doubted):
    app = open_app(damaged_folder, drawn_model_folder)
    assert images_shown(app) == doubted[:10]
    app.get("pagination")[0].set_value(2).run()
    assert images_shown(app) == doubted[10:]


def test_a_verdict_is_saved_at_once_and_its_finding_is_no_longer_open(
    damaged_folder, drawn_model_folder, doubted
):
    app = open_app(damaged_folder, drawn_model_folder)
    assert "0 of 12 done" in [caption.value for caption in app.caption]
    press(app, "label is wrong", doubted[0])
    press(app, "label is right", doubted[2])
    run(app.selectbox(key=f"should-doubted labels-{doubted[1]}").set_value("BCC"))
    assert verdicts_on(damaged_folder).keys() == {
        doubted[0],
        doubted[2],
    }  # a diagnosis alone is no verdict
    press(app, "label is wrong", doubted[1])
    assert verdicts_on(damaged_folder) == {
        doubted[0]: ("label is wrong", "MEL"),
        doubted[1]: ("label is wrong", "BCC"),
        doubted[2]: ("label is right", ""),
    }
    assert images_shown(app) == doubted[3:12]
    assert "3 of 12 done" in [caption.value for caption in app.caption]
    reopened = open_app(damaged_folder, drawn_model_folder)
    assert images_shown(reopened) == doubted[3:12]


def test_a_verdict_that_is_done_can_be_changed(damaged_folder, drawn_model_folder, doubted):
    app = open_app(damaged_folder, drawn_model_folder)
    press(app, "label is wrong", doubted[0])
    run(app.segmented_control(key="suspects-which").set_value("Done"))
    assert images_shown(app) == doubted[:1]
    box_key = f"should-doubted labels-{doubted[0]}"
    run(app.selectbox(key=box_key).set_value("DF"))
    assert verdicts_on(damaged_folder) == {doubted[0]: ("label is wrong", "DF")}
    run(app.selectbox(key=box_key).set_value(None))
    assert verdicts_on(damaged_folder) == {doubted[0]: ("label is wrong", "")}
    press(app, "cannot tell", doubted[0])
    assert verdicts_on(damaged_folder) == {doubted[0]: ("cannot tell", "")}
    assert not [box for box in app.selectbox if box.key.startswith("should-")]
    press(app, "label is wrong", doubted[0])
    assert verdicts_on(damaged_folder) == {doubted[0]: ("label is wrong", "MEL")}


def test_a_verdict_that_is_done_can_be_withdrawn(damaged_folder, drawn_model_folder, doubted):
    app = open_app(damaged_folder, drawn_model_folder)
    press(app, "label is wrong", doubted[0])
    run(app.segmented_control(key="suspects-which").set_value("Done"))
    press(app, "withdraw", doubted[0])
    assert verdicts_on(damaged_folder) == {}
    assert "No verdict yet." in [text.value for text in app.markdown]


def test_undo_restores_the_former_verdict(damaged_folder, drawn_model_folder, doubted):
    app = open_app(damaged_folder, drawn_model_folder)
    assert not [button for button in app.button if button.key == "undo"]
    press(app, "cannot tell", doubted[0])
    assert doubted[0] in app.button(key="undo").help.replace("\\", "")
    run(app.button(key="undo").click())
    assert verdicts_on(damaged_folder) == {}
    press(app, "label is right", doubted[0])
    run(app.segmented_control(key="suspects-which").set_value("Done"))
    press(app, "label is wrong", doubted[0])
    run(app.button(key="undo").click())
    assert verdicts_on(damaged_folder) == {doubted[0]: ("label is right", "")}
    assert not [button for button in app.button if button.key == "undo"]


def test_the_first_open_finding_is_judged_by_keys(damaged_folder, drawn_model_folder, doubted):
    app = open_app(damaged_folder, drawn_model_folder)
    keys = {button.key: button.proto.shortcut for button in app.button if button.proto.shortcut}
    assert list(keys.values()) == ["1", "2", "3"]
    assert all(key.endswith(doubted[0]) for key in keys)


def test_the_pictures_of_a_finding_open_large(damaged_folder, drawn_model_folder, doubted):
    app = open_app(damaged_folder, drawn_model_folder)
    run(app.segmented_control(key="page-suspects-kind").set_value("near-duplicates"))
    run(app.button(key="closer-near-duplicates-ISIC_9000005-ISIC_9000003").click())
    alternatives = {picture.alt for image in app.image for picture in image.proto.imgs}
    assert {"Image ISIC_9000005", "Image ISIC_9000003"} <= alternatives


def test_unreadable_or_unwritable_verdicts_are_reported_and_kept(
    damaged_folder, drawn_model_folder, doubted, verdicts_folder
):
    app = open_app(damaged_folder, drawn_model_folder)
    verdicts_folder.mkdir()
    path = verdicts_folder / f"{damaged_folder.name}.csv"
    button = app.button(key=f"cannot tell-doubted labels-{doubted[0]}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cadlib.ui.worklist.save_verdict", refuse)
        run(button.click())
    assert "no room" in app.error[0].value
    assert images_shown(app) == doubted[:10]
    path.write_text("image\n")
    run(app)
    assert "Expected the columns" in app.error[0].value.replace("\\", "")
    assert path.read_text() == "image\n"


def refuse(*_: object) -> None:
    raise VerdictsInvalid("no room")


def test_the_images_that_the_verdicts_leave_become_a_subset(
    damaged_folder, drawn_model_folder, doubted
):
    save_verdict(
        damaged_folder.name,
        Finding("near-duplicates", "ISIC_9000003", "ISIC_9000005"),
        said_now("same picture"),
    )
    image = open_dataset(damaged_folder, verify=False).table.set_index("image")["diagnosis"]
    wrong = image.index[0]
    save_verdict(
        damaged_folder.name,
        Finding("doubted labels", wrong, diagnosis=image[wrong]),
        said_now("label is wrong"),
    )
    app = open_app(damaged_folder, drawn_model_folder)
    assert not [button for button in app.button if button.key == "save-clean"]
    run(app.segmented_control(key="suspects-which").set_value("Done"))
    run(app.button(key="save-clean").click())
    subset = read_subset(f"{damaged_folder.name} cleaned")
    assert set(subset.images) == set(image.index) - {wrong, "ISIC_9000005"}
    assert subset.dataset == damaged_folder.name
    assert "judged wrong" in subset.chosen
    assert app.code[0].value == command_hints.train_subset(subset.name)
