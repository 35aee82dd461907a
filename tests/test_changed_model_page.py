"""An open session whose model folder changes on disk shows what happened, and mixes no two models."""

import json
import os
import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from cadlib.images.synthetic import demo_lesions
from cadlib.model.record import (
    CARD_FILE,
    METRICS_FILE,
    RECORD_FILE,
    WEIGHTS_FILE,
    find_model,
    read_record,
)
from tests.model_folders import change_record, edit_record
from tests.page_content import words

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Return the folder of the only model of the app."""
    place = shutil.copytree(find_model("isic2019"), tmp_path / "models" / "isic2019")
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CADLIB_DATA", raising=False)
    return Path(place)


@pytest.fixture
def session(folder) -> AppTest:
    """Return a session with one answered image."""
    app = AppTest.from_file(str(ROOT / "menu.py"), default_timeout=120).run()
    data = demo_lesions()[0].png()
    page = app.file_uploader[0].set_value([("one.png", data, "image/png")]).run()
    assert "Refer" in page.subheader[0].value
    return page


def move_threshold(raw):
    for point in raw["operating_points"]:
        point["threshold"] = 0.9999


def plain_words(page: AppTest) -> str:
    return words(page).replace("\\", "")


def warnings(page: AppTest) -> str:
    return "\n".join(warning.value for warning in page.warning).replace("\\", "")


@pytest.mark.parametrize("same_time", [False, True])
def test_a_threshold_edited_in_an_open_session_decides_nothing(session, folder, same_time):
    path = folder / RECORD_FILE
    before = path.stat()
    edit_record(folder, move_threshold)
    if same_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    page = session.run()
    assert not page.exception
    assert "operating_points[0].threshold changed" in warnings(page)
    assert not [
        heading.value
        for heading in page.subheader
        if "Below the referral threshold" in heading.value
    ]


@pytest.mark.parametrize("name", [METRICS_FILE, CARD_FILE])
@pytest.mark.parametrize("page", ["performance", "diagnose", "saliency"])
def test_a_metric_edited_on_disk_is_not_shown(session, folder, name, page):
    path = folder / name
    path.write_text(path.read_text(encoding="utf-8").replace("0.9", "0.99", 1), encoding="utf-8")
    other_page = session.switch_page(f"pages/{page}.py").run()
    assert not other_page.exception
    assert f"{name} changed" in warnings(other_page)


def test_a_model_that_was_replaced_is_named_with_its_former_id(session, folder):
    before = read_record(folder).model_id
    change_record(folder, move_threshold)
    page = session.run()
    assert not page.exception
    after = read_record(folder).model_id
    assert f"{before} was replaced by {after} since this session began" in warnings(page)
    assert page.session_state["cases"] == {}


def test_weights_edited_on_disk_leave_the_answers_of_an_open_session(session, folder):
    before = session.subheader[0].value
    with (folder / WEIGHTS_FILE).open("ab") as file:
        file.write(b"x")
    page = session.run()
    assert not page.exception
    assert page.subheader[0].value == before


def test_page_and_downloads_show_the_model_id(session, folder):
    from cadlib.ui import session as held

    model_id = read_record(folder).model_id
    assert model_id in plain_words(session)
    cases = list(session.session_state["cases"].values())
    assert model_id in held.cases_csv(cases)
    assert json.loads(held.cases_json(cases))[0]["model"] == model_id
