"""Collecting readings with a known outcome, and comparing them."""

from dataclasses import replace

import pytest

from cadlib.__main__ import main
from cadlib.cases import place
from cadlib.cases.reader_study import paired_readings, study_readings
from cadlib.cases.records import OutcomeDetails, ReadingDetails
from cadlib.metrics.imrmc_format import study_of_imrmc
from cadlib.metrics.reader_tables import NONE
from tests.case_examples import DAY, HISTOLOGY, add_case

BENIGN = OutcomeDetails(False, "histology", "NV", DAY)


def first(management: str) -> ReadingDetails:
    return ReadingDetails("before", "NV", management, 3)


def second(management: str) -> ReadingDetails:
    return ReadingDetails("after", "NV", management, 3, "changes")


@pytest.fixture
def read(store, lesion_images, assessment, model):
    """Return a function that adds a case with readings of a reader and an outcome."""

    def add(pseudonym, outcome, before, after, reader="a"):
        case = add_case(store, pseudonym, lesion_images[0])
        with store.write(reader) as cases:
            stored = cases.add_assessment(case.image, assessment, model.record)
            if before:
                cases.add_reading(case.image, first(before))
            for management in after:
                cases.add_reading(case.image, second(management), stored)
            if outcome:
                cases.add_outcome(case.lesion, outcome)
        return case

    return add


def test_readings_before_and_after_the_result_are_compared(store, read):
    read("P-1", HISTOLOGY, "monitor", ["biopsy"])
    read("P-2", BENIGN, "refer", ["no further action"])
    with store.read() as connection:
        paired = paired_readings(connection)
    assert paired.malignant.tolist() == [True, False]
    assert paired.before.tolist() == [False, True]
    assert paired.after.tolist() == [True, False]
    assert paired.model.tolist() == [True, True]
    assert len(set(paired.patient.tolist())) == 2


def test_readings_without_a_pair_or_an_outcome_do_not_count(store, read):
    read("P-1", None, "monitor", ["biopsy"])
    read("P-2", HISTOLOGY, None, ["biopsy"])
    read("P-3", HISTOLOGY, "monitor", [])
    with store.read() as connection:
        assert len(paired_readings(connection).reader) == 0


def test_the_last_reading_after_the_result_and_the_last_outcome_count(store, read):
    case = read("P-1", HISTOLOGY, "monitor", ["biopsy", "monitor"])
    with store.write() as cases:
        cases.add_outcome(case.lesion, replace(BENIGN, source="expert consensus"))
    with store.read() as connection:
        paired = paired_readings(connection)
    assert paired.after.tolist() == [False]
    assert paired.malignant.tolist() == [False]


def test_a_study_has_two_modalities(store, read):
    read("P-1", HISTOLOGY, "monitor", ["biopsy"])
    with store.read() as connection:
        study = study_readings(connection)
    assert study.modality.tolist() == ["reader alone", "reader with model"]
    assert study.score.tolist() == [0, 1]


@pytest.fixture
def environment(url, store, monkeypatch):
    monkeypatch.setenv(place.URL_VARIABLE, url)
    monkeypatch.setenv(place.IMAGES_VARIABLE, store.images.address)


def test_the_command_prints_the_comparison_and_writes_imrmc(environment, read, tmp_path, capsys):
    for number in range(6):
        read(f"M-{number}", HISTOLOGY, "monitor" if number < 2 else "biopsy", ["biopsy"])
        read(f"B-{number}", BENIGN, "monitor", ["biopsy" if number < 1 else "monitor"])
    file = tmp_path / "study.imrmc"
    assert main(["cases", "readers", "--imrmc", str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("12 readings by 1 readers, 12 patients.")
    assert "| reader alone | 0.667 (" in printed
    # Draws that all agree give no interval.
    assert "| reader with model | 1.000 | 0.833 (" in printed
    assert "| reader with model minus reader alone | +0.333 (" in printed
    assert "| correct to wrong | 1 | 0.100 (" in printed
    assert "| wrong to correct | 2 | 1.000 | 2 |" in printed
    study = study_of_imrmc(file.read_text(encoding="utf-8"))
    assert len(study.reader) == 24
    assert main(["cases", "readers", "--imrmc", str(file)]) == 2
    assert "Expected a new file" in capsys.readouterr().err


def test_an_empty_store_has_no_comparison(environment, capsys):
    assert main(["cases", "readers"]) == 0
    assert capsys.readouterr().out.strip() == NONE
