"""The row of similar cases as a page draws it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from cadlib.neighbours import Neighbours, SimilarCase
from cadlib.synthetic import write_dataset

CASES = tuple(
    SimilarCase(f"ISIC_900000{number}", code, archive, 0.99 - number / 100)
    for number, (code, archive) in enumerate(
        [("NV", "HAM10000"), ("NV", ""), ("NV", "MSK"), ("BKL", "HAM10000"), ("MEL", "BCN20000")]
    )
)
FOUND = Neighbours("MEL", CASES, None)


def drawn():
    import streamlit as st

    from cadlib import ui

    ui.similar(st.session_state["found"])


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Return what draws similar cases, with a data set that has some of their pictures."""
    write_dataset(tmp_path / "drawn", per_class=4, size_px=64)
    for path in (tmp_path / "drawn" / "ISIC_2019_Training_Input").iterdir():
        if not path.stem.endswith(("0", "1", "2", "3")):
            path.unlink()
    monkeypatch.setenv("CADLIB_DATA", str(tmp_path))

    def draw(found: Neighbours | None) -> AppTest:
        app = AppTest.from_function(drawn, default_timeout=60)
        app.session_state["found"] = SimpleNamespace(neighbours=found)
        app.run()
        assert not app.exception
        return app

    return draw


def text_of(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.markdown, *app.caption, *app.warning))


def test_each_case_has_its_label_sign_similarity_id_and_archive(shown):
    text = text_of(shown(FOUND))
    assert ":blue[●] NV · 0.99" in text
    assert ":orange[▲] MEL · 0.95" in text
    assert "ISIC\\_9000003  \nHAM10000" in text


def test_a_case_without_a_picture_at_hand_shows_its_diagnosis_in_its_place(shown):
    app = shown(FOUND)
    told = [picture.alt for element in app.image for picture in element.proto.imgs]
    assert len(told) == 4
    assert told[0] == "Training image ISIC_9000000, Melanocytic nevus"
    assert ":orange[▲] Melanoma" in [element.value for element in app.caption]


def test_disagreement_is_pointed_out_and_agreement_is_not(shown):
    assert "disagree" in text_of(shown(FOUND))
    assert "disagree" not in text_of(shown(replace(FOUND, first="NV")))


def test_says_how_often_the_model_was_right_where_as_many_agreed(shown):
    assert "Where 1 of 5 similar cases had the model's first diagnosis, it was right in 0." in text_of(shown(FOUND))


def test_a_training_image_is_told_by_name(shown):
    app = shown(replace(FOUND, itself=CASES[4]))
    assert "This very picture is a training image: ISIC\\_9000004, :orange[▲] MEL" in app.warning[0].value
    assert "it was right in" not in text_of(app)  # measured on images that are none
    assert not shown(FOUND).warning


def test_a_model_without_an_index_names_the_command(shown):
    assert "python -m cadlib index --model isic2019" in text_of(shown(None))
