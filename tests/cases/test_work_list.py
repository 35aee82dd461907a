"""Taking files in, assessing them in the background, and listing them."""

from dataclasses import replace

import numpy as np
import pytest

from cadlib.assessment import assess
from cadlib.cases import background, queries
from cadlib.cases.background import assess_images, failed, waiting
from cadlib.cases.intake import take_in
from cadlib.cases.records import PatientDetails
from cadlib.cases.verification import verify
from cadlib.cases.work_list import count_by_state, work_list
from cadlib.errors import CaseStoreFailed
from cadlib.images.synthetic import demo_lesions
from tests.case_examples import DAY, add_case


@pytest.fixture(scope="module")
def files() -> list[tuple[str, bytes]]:
    """Return three images and a broken file."""
    images = [(f"lesion-{number}.png", lesion.png()) for number, lesion in enumerate(DEMO, 1)]
    return [*images, ("broken.jpg", b"no image")]


DEMO = demo_lesions()[:3]


@pytest.fixture
def taken(store, files):
    return take_in(store, files, DAY, "local")


def listed(store, *arguments, **options):
    with store.read() as connection:
        return work_list(connection, *arguments, **options)


def run(store, model, ids=None) -> int:
    model_id = model.record.model_id
    with store.read() as connection:
        ids = ids or waiting(connection, model_id)
    return assess_images(store, model, "balanced", ids)


def test_each_file_becomes_a_new_case(store, taken):
    assert taken.failed == ("broken.jpg",)
    items = listed(store, "age")
    assert [item.pseudonym for item in items] == ["lesion-1", "lesion-2", "lesion-3"]
    assert {item.state for item in items} == {"new"}
    assert {item.assessment_id for item in items} == {None}
    assert [item.image_id for item in items] == [image.id for image in taken.images]


def test_a_file_that_cannot_be_read_is_listed_with_its_reason(store, taken):
    with store.read() as connection:
        [file] = queries.failed_files(connection)
    assert file.file_name == "broken.jpg"
    assert "Expected" in file.reason


def test_files_of_one_name_get_numbers(store, files):
    take_in(store, files[:1] * 3, DAY, "local")
    names = [item.pseudonym for item in listed(store, "age")]
    assert names == ["lesion-1", "lesion-1 (2)", "lesion-1 (3)"]


@pytest.mark.parametrize(
    ("name", "pseudonym"),
    [
        ("x" * 100 + ".png", "x" * 64),
        ("\n\t.png", "file"),
        (" a\nb .png", "ab"),
        ("folder/ü-1.tar.png", "ü-1.tar"),
    ],
)
def test_any_file_name_gives_a_pseudonym(store, files, name, pseudonym):
    take_in(store, [(name, files[0][1])], DAY, "local")
    [item] = listed(store)
    assert item.pseudonym == pseudonym


def test_all_waiting_images_are_assessed_and_saved(store, taken, model, files):
    assert run(store, model) == 3
    with store.read() as connection:
        assert waiting(connection, model.record.model_id) == []
        assert verify(connection, store.images).unchanged
    by_name = {item.pseudonym: item for item in listed(store)}
    alone = assess(model, files[0][1], with_heatmap=False)
    assert by_name["lesion-1"].malignant_probability == pytest.approx(
        alone.prediction.malignant_probability, abs=1e-12
    )
    assert by_name["lesion-1"].action == alone.decision.action


def test_an_interrupted_run_goes_on_with_the_rest(store, taken, model):
    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with store.read() as connection:
        ids = waiting(connection, model.record.model_id)
    with pytest.raises(KeyboardInterrupt):
        assess_images(store, model, "balanced", ids, stop)
    with store.read() as connection:
        assert waiting(connection, model.record.model_id) == ids[1:]
    assert run(store, model) == 2


def test_an_image_that_fails_is_listed_and_can_be_tried_again(store, taken, model, monkeypatch):
    def fail(*_arguments, **_options):
        raise CaseStoreFailed("The image is missing.")

    with monkeypatch.context() as patch:
        patch.setattr(background, "assess", fail)
        assert run(store, model) == 0
    model_id = model.record.model_id
    with store.read() as connection:
        assert waiting(connection, model_id) == []
        failures = failed(connection, model_id)
    assert [failure.pseudonym for failure in failures] == ["lesion-1", "lesion-2", "lesion-3"]
    assert {failure.reason for failure in failures} == {"The image is missing."}
    assert run(store, model, [failure.image_id for failure in failures]) == 3
    with store.read() as connection:
        assert failed(connection, model_id) == []


def test_an_image_of_a_patient_erased_meanwhile_is_left_out(store, taken, model):
    with store.read() as connection:
        ids = waiting(connection, model.record.model_id)
        patient = queries.patient_by_pseudonym(connection, "lesion-2")
    store.erase_patient(patient.id)
    assert run(store, model, ids) == 2


def test_another_model_makes_images_wait_again(store, taken, model):
    run(store, model)
    with store.read() as connection:
        assert len(waiting(connection, "another 1.0.0 (000000000000)")) == 3


@pytest.fixture
def ranked(store, lesion_images, assessment, model):
    """Return a store with five images of known probabilities, added in this order."""
    low_high = {"a": 0.10, "b": 0.90, "c": 0.23, "d": 0.60}
    for name, malignant in low_high.items():
        case = add_case(store, name, lesion_images[0])
        rest = 1 - malignant
        probabilities = np.array([malignant, rest, 0, 0, 0, 0, 0, 0])
        prediction = replace(
            assessment.prediction,
            probabilities=probabilities,
            member_probabilities=probabilities[None],
        )
        with store.write() as cases:
            cases.add_assessment(
                case.image, replace(assessment, prediction=prediction), model.record
            )
    add_case(store, "waiting", lesion_images[0])
    return store


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("risk", ["b", "d", "c", "a", "waiting"]),
        # The threshold is 0.22.
        ("uncertainty", ["c", "a", "d", "b", "waiting"]),
        ("age", ["a", "b", "c", "d", "waiting"]),
    ],
)
def test_a_list_is_sorted_by(ranked, order, names):
    assert [item.pseudonym for item in listed(ranked, order)] == names


def test_a_list_is_read_in_pages(ranked):
    whole = listed(ranked, "risk")
    pages = [*listed(ranked, limit=3), *listed(ranked, limit=3, offset=3)]
    assert pages == whole


def test_a_list_is_filtered_by_state_and_pseudonym(ranked):
    with ranked.read() as connection:
        patient = queries.patient_by_pseudonym(connection, "b")
        [lesion] = queries.lesions(connection, patient.id)
        [image] = queries.images(connection, lesion.id)
    with ranked.write() as cases:
        cases.set_state(image, "read")
        cases.correct_patient(patient, PatientDetails("B_100%"))
    assert [item.pseudonym for item in listed(ranked, states=["read"])] == ["B_100%"]
    assert [item.pseudonym for item in listed(ranked, text="b_1")] == ["B_100%"]
    # The signs that SQL gives a meaning have none here.
    assert listed(ranked, text="%") == listed(ranked, text="b_1")
    assert listed(ranked, text="_0") == []
    with ranked.read() as connection:
        counts = count_by_state(connection)
        assert counts == {"new": 4, "read": 1, "biopsy requested": 0, "histology known": 0}
        assert count_by_state(connection, "wait")["new"] == 1


def test_the_latest_assessment_counts(ranked, assessment, model):
    item = listed(ranked, "age")[0]
    with ranked.read() as connection:
        image = queries.image(connection, item.image_id)
    with ranked.write() as cases:
        cases.add_assessment(image, assessment, model.record)
    again = listed(ranked, "age")[0]
    assert again.image_id == item.image_id
    assert again.malignant_probability == assessment.prediction.malignant_probability
    assert len(listed(ranked)) == 5
