"""Which saliency map a reader reviews next."""

import pytest

from cadlib.cases import overlay_queue, queries
from cadlib.cases.overlay_queue import REPEAT_AFTER, next_tasks
from cadlib.cases.records import OverlayReviewDetails
from cadlib.errors import CaseRejected
from tests.case_examples import add_case

N = 60


@pytest.fixture
def assessed(store, lesion_images, assessment, model):
    """Return the assessments of many images, by id."""
    by_id = {}
    for number in range(N):
        case = add_case(store, f"P-{number}", lesion_images[0])
        with store.write() as cases:
            stored = cases.add_assessment(case.image, assessment, model.record)
        by_id[stored.id] = stored
    return by_id


def details(task, **changes) -> OverlayReviewDetails:
    values = {
        "method": "rise",
        "diagnosis": "MEL",
        "verdict": "on lesion",
        "is_random": task.seed is not None,
        "repeats_id": task.repeats_id,
    }
    return OverlayReviewDetails(**(values | changes))


def review_all(store, assessed, reader: str) -> list[overlay_queue.ReviewTask]:
    """Review until nothing is left, and return the tasks in their order."""
    tasks = []
    while True:
        with store.write(reader) as cases:
            found = next_tasks(cases.connection, reader)
            if not found:
                return tasks
            [task] = found
            cases.add_overlay_review(assessed[task.assessment_id], details(task))
            tasks.append(task)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_each_map_comes_once_and_some_come_twice(store, assessed):
    tasks = review_all(store, assessed, "a")
    first = [task.assessment_id for task in tasks if task.repeats_id is None]
    assert sorted(first) == sorted(assessed)
    repeats = [task for task in tasks if task.repeats_id]
    # Ten in a hundred, by hashes: 1 to 15 of 60 in all but one of 100,000 cases.
    assert 1 <= len(repeats) <= 15
    with store.read() as connection:
        reviews = {review.id: review for review in queries.overlay_reviews(connection, "a")}
    places = {review_id: place for place, review_id in enumerate(reviews)}
    for place, task in enumerate(tasks):
        if task.repeats_id:
            earlier = reviews[task.repeats_id]
            assert earlier.assessment_id == task.assessment_id
            assert earlier.details.is_random == (task.seed is not None)
            is_last = place >= len(tasks) - len(repeats)
            assert place - places[task.repeats_id] > REPEAT_AFTER or is_last


def test_tasks_are_the_same_after_a_restart_and_others_for_another_reader(store, assessed):
    with store.read() as connection:
        tasks = next_tasks(connection, "a", N)
        assert next_tasks(connection, "a", N) == tasks
        assert len(tasks) == N
        others = [next_tasks(connection, reader, N) for reader in "abcdefgh"]
    random_tasks = {tuple(task.assessment_id for task in of if task.seed) for of in others}
    assert len(random_tasks) > 1


def test_one_in_twenty_maps_is_random():
    n_random = 0
    for number in range(2000):
        n_random += overlay_queue._task(f"assessment {number}", "a").seed is not None
    assert 70 <= n_random <= 130


def test_a_review_is_read_as_it_was_written(store, assessed):
    [stored, *_] = assessed.values()
    region = ((0.1, 0.2), (0.5, 0.2), (0.5, 0.9))
    written = OverlayReviewDetails(
        method="rise",
        diagnosis="MEL",
        verdict="artefact",
        reason="hair",
        region=region,
        peak_in_region=False,
        iou=0.25,
    )
    with store.write("a") as cases:
        review = cases.add_overlay_review(stored, written)
    with store.read() as connection:
        assert queries.overlay_reviews(connection, "a") == [review]
        assert queries.overlay_reviews(connection, "b") == []
    assert review.details == written


@pytest.mark.parametrize(
    "changes",
    [{"verdict": "good"}, {"reason": "dust"}, {"diagnosis": "XX"}, {"iou": 1.5}],
)
def test_a_verdict_out_of_range_is_refused(changes):
    task = overlay_queue.ReviewTask("x", None, None)
    with pytest.raises(CaseRejected):
        details(task, **changes)


def test_an_erased_patient_has_no_reviews(store, assessed):
    [stored, *_] = assessed.values()
    task = overlay_queue.ReviewTask(stored.id, None, None)
    with store.write("a") as cases:
        cases.add_overlay_review(stored, details(task))
        patient = queries.patient_by_pseudonym(cases.connection, "P-0")
    store.erase_patient(patient.id)
    with store.read() as connection:
        assert queries.overlay_reviews(connection) == []
