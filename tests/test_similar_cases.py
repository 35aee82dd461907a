"""The row of similar cases as a page draws it."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from msgspec import structs
from streamlit.testing.v1 import AppTest

from cadlib.images.patient import PatientFacts
from cadlib.images.synthetic import write_dataset
from cadlib.model import metrics_file
from cadlib.model.neighbours import Neighbours, SimilarCase
from cadlib.model.neighbours.agreement import about_the_agreement
from cadlib.model.record import METRICS_FILE, find_model, read_record

CASES = tuple(
    SimilarCase(f"ISIC_900000{number}", code, archive, 0.99 - number / 100)
    for number, (code, archive) in enumerate(
        [("NV", "HAM10000"), ("NV", ""), ("NV", "MSK"), ("BKL", "HAM10000"), ("MEL", "BCN20000")]
    )
)
NEIGHBOURS = Neighbours("MEL", CASES, None)


def draw_cases():
    import streamlit as st

    from cadlib import ui

    ui.similar(st.session_state["found"])


@pytest.fixture
def open_cases(tmp_path, monkeypatch):
    """Return a function that opens the similar cases; a data set has some of their images."""
    write_dataset(tmp_path / "drawn", per_class=4, size_px=64)
    for path in (tmp_path / "drawn" / "ISIC_2019_Training_Input").iterdir():
        if not path.stem.endswith(("0", "1", "2", "3")):
            path.unlink()
    monkeypatch.setenv("CADLIB_DATA", str(tmp_path))

    def draw(neighbours: Neighbours | None, facts: PatientFacts | None = None) -> AppTest:
        app = AppTest.from_function(draw_cases, default_timeout=60)
        app.session_state["found"] = SimpleNamespace(
            neighbours=neighbours, prediction=SimpleNamespace(facts=facts)
        )
        app.run()
        assert not app.exception
        return app

    return draw


def text_of(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.markdown, *app.caption, *app.warning))


def test_each_case_has_its_label_sign_similarity_id_and_archive(open_cases):
    text = text_of(open_cases(NEIGHBOURS))
    assert ":blue[●] NV · 0.99" in text
    assert ":orange[▲] MEL · 0.95" in text
    assert "ISIC\\_9000003  \nHAM10000" in text


def test_a_case_without_its_image_shows_its_diagnosis(open_cases):
    app = open_cases(NEIGHBOURS)
    alternatives = [picture.alt for element in app.image for picture in element.proto.imgs]
    assert len(alternatives) == 4
    assert alternatives[0] == "Training image ISIC_9000000, Melanocytic nevus"
    assert ":orange[▲] Melanoma" in [element.value for element in app.caption]


def test_marks_that_most_cases_differ_and_marks_no_agreement(open_cases):
    assert ":orange-badge[! most differ]" in text_of(open_cases(NEIGHBOURS))
    text = text_of(open_cases(replace(NEIGHBOURS, first="NV")))
    assert "differ" not in text
    assert "3 of 5 have the model's top diagnosis" in text
    assert " agree" not in text


@pytest.mark.parametrize(("first", "count"), [("MEL", "1"), ("NV", "3")])
def test_reports_the_measured_share_of_correct_diagnoses_with_its_interval(
    open_cases, first, count
):
    measured = json.loads((find_model("isic2019") / METRICS_FILE).read_text())["neighbours"]
    share = measured["right_when_agreeing"][count]
    n = measured["n_agreeing"][count]
    low, high = measured["intervals"]["right_when_agreeing"][count]
    assert (
        f"When {count} of 5 similar cases had the model's top diagnosis, this diagnosis was correct for "
        f"{share:.2f} (95 % CI {low:.2f} to {high:.2f}) of {n:,} test images."
    ) in text_of(open_cases(replace(NEIGHBOURS, first=first)))


def test_reports_no_share_for_a_result_with_patient_data(open_cases):
    assert "was correct for" in text_of(open_cases(NEIGHBOURS, facts=None))
    assert "was correct for" not in text_of(
        open_cases(NEIGHBOURS, facts=PatientFacts(70.0, None, None))
    )


def test_an_unmeasured_share_is_called_unknown():
    folder = find_model("isic2019")
    measured = metrics_file.measured(folder, read_record(folder)).neighbours
    undefined = dict.fromkeys(measured.n_agreeing)
    measured = structs.replace(
        measured,
        right_when_agreeing=undefined,
        intervals=structs.replace(measured.intervals, right_when_agreeing=undefined),
    )
    assert "it is not known how often" in about_the_agreement(NEIGHBOURS, measured)


def test_a_training_image_is_named(open_cases):
    app = open_cases(replace(NEIGHBOURS, itself=CASES[4]))
    assert "This image is a training image (ISIC\\_9000004, :orange[▲] MEL)" in app.warning[0].value
    # The share was measured on images that are no training images.
    assert "was correct for" not in text_of(app)
    assert not open_cases(NEIGHBOURS).warning


def test_a_model_without_an_index_names_the_command(open_cases):
    assert "python -m cadlib index --model isic2019" in text_of(open_cases(None))
