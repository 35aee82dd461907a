"""Every page as its reader meets it, in Streamlit's own test runner, with a tiny network of random weights."""

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
import streamlit as st
from msgspec import structs
from PIL import Image
from safetensors.torch import save
from streamlit.testing.v1 import AppTest

from cadlib import jobs, ui
from cadlib.data.contradictions import CONTRADICTIONS
from cadlib.data.dataset import open_dataset
from cadlib.data.subsets import Subset, list_subsets, read_subset, save_subset
from cadlib.evaluation import evaluate
from cadlib.evaluation.cached import evaluation_folder
from cadlib.images import read_image
from cadlib.images.patient import PatientFacts
from cadlib.images.red_blue_swap import SWAPPED_NOTE
from cadlib.images.synthetic import demo_lesions
from cadlib.metrics.operating_point import OperatingPoint, PointIntervals, shown_name, two_digits
from cadlib.metrics.predictive_values import PredictiveValues
from cadlib.metrics.summary_schema import DataFacts, EvaluationMetrics
from cadlib.model import metrics_file, record
from cadlib.model.audit_result import LEAKS, LeakAudit
from cadlib.model.calibration import Temperature
from cadlib.model.golden import golden_json
from cadlib.model.model import Model
from cadlib.model.novelty import Novelty
from cadlib.network import backbones
from cadlib.network.onnx_export import to_onnx
from cadlib.saliency import heatmap
from cadlib.saliency.heatmap import METHODS, RISE
from cadlib.saliency.trust import Trust
from cadlib.server import session_memory
from cadlib.taxonomy import CODES, diagnosis
from cadlib.ui import models, session, trust
from cadlib.ui.map_grid import GRID_METHODS
from tests.model_folders import change_file, change_record
from tests.page_content import mounted, tiles, words
from tests.random_network import BACKBONE, SPEC, random_network
from tests.tiny_training import graphs_exported_once

# The package exports a function of the same name.
evidence = import_module("cadlib.ui.evidence")

ROOT = Path(__file__).parents[1]
PAGES = ("diagnose", "saliency", "dataset", "performance", "training")


def title_of(page: str) -> str:
    return "Data set" if page == "dataset" else page.capitalize()


TIMEOUT_S = 120


def audit_of(split_sha256: str, **leaks: int) -> LeakAudit:
    """Return the audit of a split with these leaks."""
    return LeakAudit(
        "2026-01-01T00:00:00+00:00", "drawn", split_sha256, {"train": 1}, **{**dict.fromkeys(LEAKS, 0), **leaks},
        contradictions=dict.fromkeys(CONTRADICTIONS, 0), named=(), leaks=any(leaks.values()),
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory) -> Path:
    """Return a folder of models: one network of random weights, with random metrics."""
    network = random_network()
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    weights = save(tensors)
    layer = backbones.saliency_layer(network)
    with graphs_exported_once():
        graph = to_onnx(network, layer, SPEC)
    member = record.Member(
        backbone=BACKBONE,
        saliency_layer=layer,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        onnx_sha256=hashlib.sha256(graph).hexdigest(),
        fold=None,
        run=record.TrainingRun("0" * 40, {}, 0, 0, 0.0),
    )
    shipped = record.find_model("isic2019")
    model_record = tiny_record(member, record.read_record(shipped).novelty)
    files = {
        record.WEIGHTS_FILE: weights,
        record.ONNX_FILE: graph,
        record.NOVELTY_FILE: (shipped / record.NOVELTY_FILE).read_bytes(),
        record.METRICS_FILE: metrics_file.metrics_json(random_metrics(model_record)).encode(),
        record.CARD_FILE: b"# tiny 0.1.0\n\nIt knows nothing.\n",
    }
    return write_model(tmp_path_factory.mktemp("models") / "tiny", model_record, files).parent


def write_model(folder: Path, model_record: record.ModelRecord, files: dict[str, bytes]) -> Path:
    """Write a model with its golden answers; return its folder."""
    folder.mkdir()
    files[record.GOLDEN_FILE] = golden_json(Model.assemble(model_record, files, folder)).encode()
    record.write_folder(folder, model_record, files)
    return folder


def tiny_record(member: record.Member, novelty: record.NoveltyFacts | None) -> record.ModelRecord:
    """Return the record of the tiny model, with one operating point."""
    point = OperatingPoint(
        "balanced", 0.30, 0.95, 0.80, 60, 90, "validation", PointIntervals((0.90, 0.98), None)
    )
    return record.ModelRecord(
        name="tiny",
        version="0.1.0",
        created="2026-01-01T00:00:00+00:00",
        members=(member,),
        views=8,
        average="logits",
        codes=CODES,
        input=SPEC,
        temperature=Temperature(1.0, 1.0),
        bias=(0.0,) * 8,
        conformal=record.ConformalSets(0.9, record.Quantiles(**dict.fromkeys(CODES, 1.0))),
        balanced_rule=None,
        operating_points=(point,),
        training=record.TrainingFacts("0" * 64, {"train": 1}, {"train": 1}, "drawn"),
        audit=audit_of("0" * 64),
        metadata=None,
        neighbours=None,
        novelty=novelty,
        libraries={},
        data_licence="none",
        intended_use="To test the pages with.",
        known_limits=("It knows nothing.",),
    )


def random_metrics(model_record: record.ModelRecord) -> EvaluationMetrics:
    """Return the metrics of a model that guesses, on pictures among which no dermatofibroma is."""
    rng = np.random.default_rng(0)
    truth = rng.choice([code for code in CODES if code != "DF"], 150)
    images = [f"ISIC_{number:07}" for number in range(150)]
    table = pd.DataFrame({"image": images, "diagnosis": truth}).assign(
        width_px=600,
        height_px=450,
        archive="HAM10000",
        age_approx=50.0,
        sex="female",
        anatom_site_general="head/neck",
        lesion_id=None,
        lesion_group=None,
    )
    metrics = evaluate.build_metrics(
        table, rng.dirichlet(np.ones(8), 150), model_record.operating_points
    )
    return structs.replace(
        metrics,
        model=metrics_file.model_facts(model_record),
        data=DataFacts(name="drawn", split="validation", images=150),
        rejected={},
    )


@pytest.fixture
def app(tiny_models, monkeypatch, tmp_path) -> AppTest:
    """Return the app with the tiny model and no data set."""
    monkeypatch.setenv("CADLIB_MODELS", str(tiny_models))
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CADLIB_DATA", raising=False)
    monkeypatch.setenv("CADLIB_LOCAL_FOLDERS", "1")
    return AppTest.from_file(str(ROOT / "menu.py"), default_timeout=TIMEOUT_S)


def opened(app: AppTest, name: str) -> AppTest:
    """Open a page by its address."""
    # The app opens with this page, and its file is not named like its address.
    if name == "diagnose":
        return app.run()
    return app.switch_page(f"pages/{name}.py").run()


def drop(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    """Drop files on the uploader."""
    return (
        app.file_uploader[0]
        .set_value([(name, data, "application/octet-stream") for name, data in files])
        .run()
    )


def cases_of(app: AppTest) -> list[ui.Case]:
    return list(app.session_state["cases"].values())


def captions(app: AppTest) -> list[str]:
    """Return the line under each picture."""
    return [caption for image in app.image for caption in image.captions]


def viewed(app: AppTest) -> dict:
    """Return the data that the viewer shows."""
    return mounted(app, "viewer")[0]


def labels(app: AppTest) -> list[str]:
    return [f"{tile['sign']} {tile['label']}" for tile in tiles(app)]


def said_by_browser(app: AppTest, **state: object) -> AppTest:
    """Run the page as after a click in its gallery."""
    app.session_state["gallery"] = state
    return app.run()


def turned(app: AppTest, page: int) -> AppTest:
    return said_by_browser(
        app, wants={"of": mounted(app, "tiles")[0]["of"], "page": page, "shown": page}
    )


def open_first(app: AppTest) -> str:
    """Open the first tile as a click would, and return its image."""
    image = tiles(app)[0]["image"]
    app.session_state["sample-gallery"] = image
    app.run()
    assert not app.exception
    return image


@pytest.fixture
def lesion() -> bytes:
    return demo_lesions()[0].png()


def test_a_page_uses_the_preloaded_model(app, monkeypatch):
    st.cache_resource.clear()
    ui.load_ahead()
    monkeypatch.delattr(Model, "load")
    assert ui.model().record.name == "tiny"
    assert not app.run().exception


def test_preloading_ignores_a_missing_model(tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path))
    ui.load_ahead()


@pytest.mark.parametrize("name", PAGES)
def test_every_page_states_its_intended_use_and_names_the_model(app, name):
    page = opened(app, name)
    assert not page.exception
    assert page.title[0].value == title_of(name)
    assert ui.INTENDED_USE in words(page)
    assert "tiny 0.1.0" in words(page)


@pytest.mark.parametrize("name", PAGES)
def test_every_page_without_a_model_shows_advice(app, name, tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path))
    page = opened(app, name)
    assert not page.exception
    assert "cadlib train" in words(page)
    assert ui.INTENDED_USE in words(page)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opened_first_on_a_fresh_server_has_the_frame(app, name):
    page = app.switch_page(f"pages/{name}.py").run()  # before menu.py ever ran
    assert not page.exception
    assert page.title[0].value == title_of(name)
    assert ui.INTENDED_USE in words(page)


def test_a_damaged_model_is_named_where_it_is_needed(app, tiny_models, tmp_path, monkeypatch):
    folder = tmp_path / "tiny"
    folder.mkdir()
    for file in (tiny_models / "tiny").iterdir():
        (folder / file.name).write_bytes(
            file.read_bytes()[: 4000 if file.name == record.ONNX_FILE else None]
        )
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path))
    page = app.run()
    assert not page.exception
    assert "model.onnx changed: it has" in page.error[0].value.replace("\\", "")


def test_a_click_loads_a_synthetic_lesion_and_the_decision_comes_first(app):
    page = app.run().button(key="synthetic").click().run()
    assert not page.exception
    case = cases_of(page)[0]
    assert case.assessment.decision.sentence in page.subheader[0].value
    assert "Synthetic lesion, not real skin" in viewed(page)["caption"]


def test_files_are_sorted_by_risk_and_unreadable_ones_keep_their_reason(app):
    lesions = [(f"{lesion.name}.png", lesion.png()) for lesion in demo_lesions()[:3]]
    page = drop(
        app.run(),
        *lesions[:2],
        ("report.jpg", b"%PDF-1.4 no picture"),
        lesions[2],
        ("empty.png", b""),
    )
    assert not page.exception
    choices = [button for button in page.button if str(button.key).startswith("choose-")]
    risks = [float(button.label.split()[0]) for button in choices[:3]]
    assert risks == sorted(risks, reverse=True)
    assert [button.label for button in choices[3:]] == ["file error", "file error"]
    assert "a PDF" in words(page)
    choices[3].click().run()
    assert "report" in page.error[0].value or "empty" in page.error[0].value


@pytest.fixture
def dark_case(app, lesion) -> ui.Case:
    """Return the case of an image that is too dark, after it was dropped and selected."""
    pixels = np.asarray(Image.open(io.BytesIO(lesion)))
    dark = io.BytesIO()
    Image.fromarray(pixels // 8).save(dark, "PNG")
    drop(app.run(), ("good.png", lesion), ("dark.png", dark.getvalue()))
    case = next(case for case in cases_of(app) if case.name == "dark.png")
    tile = app.button(key=f"choose-{case.key[:8]}")
    assert tile.label == "quality too low"
    tile.click().run()
    return case


def test_the_result_of_a_low_quality_image_is_hidden_until_requested(app, dark_case):
    assert "No reliable result is possible for this image" in app.warning[0].value
    assert "dark" in app.warning[0].value
    assert not app.subheader
    assert "confidence" not in {chart.key for chart in app.get("plotly_chart")}
    app.toggle[0].set_value(True).run()
    assert dark_case.assessment.decision.sentence in app.subheader[0].value
    assert "No reliable result is possible for this image" in app.warning[0].value


def test_the_maps_of_a_low_quality_image_are_hidden_until_requested(app, dark_case):
    app.switch_page("pages/saliency.py").run()
    assert "No reliable result is possible for this image" in app.warning[0].value
    assert not [button for button in app.button if str(button.key).startswith("large-")]
    app.toggle[0].set_value(True).run()
    assert [button for button in app.button if str(button.key).startswith("large-")]


def test_the_result_of_an_unknown_kind_of_image_is_hidden_until_requested(app, lesion):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)).save(
        noise := io.BytesIO(), "PNG"
    )
    page = drop(app.run(), ("good.png", lesion), ("noise.png", noise.getvalue()))
    case = next(case for case in cases_of(page) if case.name == "noise.png")
    assert not case.assessment.novelty.known
    page.button(key=f"choose-{case.key[:8]}").click().run()
    assert "does not look like the dermoscopic images" in page.warning[0].value
    assert not page.subheader
    page.toggle[0].set_value(True).run()
    assert case.assessment.decision.sentence in page.subheader[0].value


def swapped(lesion: bytes) -> bytes:
    pixels = np.asarray(Image.open(io.BytesIO(lesion)).convert("RGB"))[..., ::-1]
    Image.fromarray(pixels).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def test_swapped_channels_are_noted_on_the_page_and_in_the_files(app, lesion):
    page = drop(app.run(), ("swapped.png", swapped(lesion)))
    page.button(key=f"swap-{cases_of(page)[0].key[:8]}").click().run()
    assert any(SWAPPED_NOTE in caption.value for caption in page.caption)
    assert SWAPPED_NOTE in ui.cases_csv(cases_of(page))
    [exported] = json.loads(ui.cases_json(cases_of(page)))
    assert exported["notes"] == [SWAPPED_NOTE]
    assert viewed(page)["caption"].startswith("Synthetic lesion")


def test_swapped_channels_are_swapped_back_on_request_and_it_can_be_undone(app, lesion):
    page = drop(app.run(), ("swapped.png", swapped(lesion)))
    [case] = cases_of(page)
    before = case.assessment
    assert "Red and blue look swapped" in page.warning[0].value
    key = f"swap-{case.key[:8]}"

    page.button(key=key).click().run()
    assert not page.exception
    [case] = cases_of(page)
    after = case.assessment
    assert np.array_equal(after.image.pixels, read_image(lesion).pixels)
    assert after.prediction.ranking() != before.prediction.ranking()
    assert after.decision.sentence in page.subheader[0].value
    assert "Red and blue were swapped at your request" in page.info[0].value

    # A second click restores the original channels.
    page.button(key=key).click().run()
    [case] = cases_of(page)
    undone = case.assessment
    assert undone.prediction.ranking() == before.prediction.ranking()
    assert undone.image.notes == ()
    assert "Red and blue look swapped" in page.warning[0].value


def test_an_image_in_order_has_no_offer_to_swap(app, lesion):
    page = drop(app.run(), ("lesion.png", lesion))
    assert not [button for button in page.button if str(button.key).startswith("swap-")]


def test_the_data_set_page_warns_where_most_images_look_swapped(app, tmp_path, lesion):
    folder = tmp_path / "swapped"
    folder.mkdir()
    (folder / "a.png").write_bytes(swapped(lesion))
    (folder / "labels.csv").write_text("image,diagnosis\na,NV\n")
    page = opened(app, "dataset")
    page.text_input(key="folder").set_value(str(folder)).run()
    assert not page.exception
    assert "Red and blue look swapped in 1 of 1 images checked." in page.warning[0].value


def test_the_page_shows_the_novelty_of_an_image():
    assert ui.about_the_kind(Novelty(0.49)) == (
        "Image type: similar to the training images (novelty 0.49, limit 1). "
        "This does not mean that the diagnosis is one of the eight."
    )
    assert ui.about_the_kind(Novelty(1.2)) == (
        "Image type: not similar to the training images (novelty 1.20, limit 1)."
    )
    assert (
        "no novelty detector. Add one: `python -m cadlib index --model isic2019 --data DIR`"
        in ui.about_the_kind(None)
    )


def test_a_novelty_just_above_its_limit_does_not_look_like_the_limit():
    assert "(novelty 1.003, limit 1)" in ui.about_the_kind(Novelty(1.003))
    assert "(novelty 0.9999, limit 1)" in ui.about_the_kind(Novelty(0.9999))


def test_every_drawn_lesion_is_shown_with_its_answer(app):
    lesions = demo_lesions()
    page = drop(app.run(), *((f"{lesion.name}.png", lesion.png()) for lesion in lesions))
    assert not page.exception
    labels = [button.label for button in page.button if str(button.key).startswith("choose-")]
    assert len(labels) == len(lesions)
    assert not {"other image type", "quality too low"} & set(labels)
    unknown = next(
        (case for case in cases_of(page) if not case.assessment.novelty.known), cases_of(page)[0]
    )
    page.button(key=f"choose-{unknown.key[:8]}").click().run()
    assert unknown.assessment.decision.sentence in page.subheader[0].value


def test_every_check_of_a_picture_is_shown_with_its_figure_and_limit(app, lesion):
    page = drop(app.run(), ("one.png", lesion))
    report = cases_of(page)[0].assessment.quality
    lines = next(
        text.value for text in page.markdown if text.value.startswith("|Check|")
    ).splitlines()
    rows = [line.strip("|").split("|") for line in lines[2:]]
    for row, check in zip(rows, report.checks, strict=True):
        name = row[0]
        value = float(row[-2])
        limit = row[-1]
        assert name == check.name
        assert value == pytest.approx(check.measurement, rel=5e-4, abs=1e-4)
        assert limit.startswith(("at least", "at most"))
        assert f"{check.limit:.4g}" in limit
    passed = len(report.checks) - len(report.flagged)
    assert f"{passed} of {len(report.checks)} checks" in page.expander[0].label


def test_the_result_states_the_prediction_set_and_the_rotated_views(app, lesion):
    page = drop(app.run(), ("one.png", lesion))
    assert ui.about_the_set(cases_of(page)[0].assessment.likely, 0.9) in words(page)
    assert "same top diagnosis in" in words(page)


def test_the_usual_heatmap_comes_from_the_pass_that_gave_the_answer(app, lesion, monkeypatch):
    monkeypatch.delattr(heatmap, "explain")
    page = drop(app.run(), ("one.png", lesion))
    assert not page.exception
    page.selectbox(key="method").select(METHODS[1]).run()
    assert page.exception  # The other methods run the network again.


def test_the_same_files_dropped_twice_are_held_once(app, lesion):
    page = drop(app.run(), ("one.png", lesion))
    page = drop(page, ("one.png", lesion), ("other.png", lesion))
    assert [case.name for case in cases_of(page)] == ["one.png", "other.png"]


def test_more_pictures_than_a_session_holds_are_refused_with_a_reason(app, lesion, monkeypatch):
    monkeypatch.setattr(session, "MAX_CASES", 1)
    page = drop(app.run(), ("one.png", lesion), ("two.png", lesion))
    assert [case.assessment is None for case in cases_of(page)] == [False, True]
    assert "at most 1 images" in cases_of(page)[1].reason


def test_an_image_refused_for_lack_of_memory_can_be_added_later(app, lesion, monkeypatch):
    monkeypatch.setattr(session, "MAX_CASES", 1)
    page = drop(app.run(), ("one.png", lesion), ("two.png", lesion))
    page.button(key="remove").click().run()
    page = drop(page, ("two.png", lesion))
    assert not page.exception
    assert [(case.name, case.assessment is None) for case in cases_of(page)] == [("two.png", False)]


def test_pictures_of_a_model_that_was_replaced_can_be_given_again(
    app, lesion, tiny_models, tmp_path, monkeypatch
):
    models = Path(shutil.copytree(tiny_models, tmp_path / "models"))
    monkeypatch.setenv("CADLIB_MODELS", str(models))
    page = drop(app.run(), ("one.png", lesion))
    change_record(models / "tiny", {"version": "0.2.0"})
    page.run()
    assert not page.exception
    assert "tiny 0.1.0" in page.warning[0].value
    assert "was replaced by tiny 0.2.0" in page.warning[0].value.replace("\\", "")
    assert cases_of(page) == []
    page = drop(page, ("one.png", lesion))
    assert [case.assessment.prediction.model_id[:10] for case in cases_of(page)] == ["tiny 0.2.0"]


def test_a_photograph_named_synthetic_is_not_called_synthetic(app):
    mirrored = np.asarray(Image.open(io.BytesIO(demo_lesions()[0].png())))[:, ::-1]
    Image.fromarray(mirrored).save(buffer := io.BytesIO(), "PNG")
    page = drop(app.run(), ("synthetic_MEL_1.png", buffer.getvalue()))
    assert viewed(page)["caption"].startswith(ui.ORIGINAL)
    page = drop(page, ("photograph.png", demo_lesions()[0].png()))
    assert viewed(page)["caption"].startswith(ui.DRAWN)


def test_more_bytes_than_a_session_holds_are_refused_with_a_reason(app, lesion, monkeypatch):
    monkeypatch.setattr(session_memory, "SESSION_LIMIT_BYTES", 450 * 450 * 3 + 1)
    page = drop(app.run(), ("one.png", lesion), ("two.png", lesion))
    assert "MB of images at a time" in cases_of(page)[1].reason


@pytest.fixture
def viewed_methods(monkeypatch) -> list[str]:
    """Return a list of the methods of the maps that the viewer is given, in their order."""
    methods = []
    viewer = evidence.viewer

    def noted(assessment, heat, name, key):
        methods.append(heat.method)
        return viewer(assessment, heat, name, key)

    monkeypatch.setattr(evidence, "viewer", noted)
    return methods


def test_a_slow_map_replaces_the_one_that_comes_with_the_prediction(
    app, lesion, viewed_methods, monkeypatch
):
    monkeypatch.setattr(evidence, "default_method", lambda: RISE)
    page = drop(app.run(), ("one.png", lesion))
    assert not page.exception
    assert viewed_methods == ["grad-cam", "rise"]
    assert "RISE for" in viewed(page)["shows"]
    # The maps of all diagnoses are ready.
    code = next(box for box in page.selectbox if box.label == "Saliency map for")
    code.set_value("DF").run()
    assert viewed_methods == ["grad-cam", "rise", "rise"]
    assert "RISE for Dermatofibroma" in viewed(page)["shows"]


def test_a_page_without_room_for_the_slow_map_keeps_the_first_one(
    app, lesion, viewed_methods, monkeypatch
):
    monkeypatch.setattr(evidence, "default_method", lambda: RISE)
    monkeypatch.setattr(session_memory, "DERIVED_LIMIT_BYTES", 1000)
    page = drop(app.run(), ("one.png", lesion))
    assert not page.exception
    assert viewed_methods == ["grad-cam"]


def test_the_most_faithful_method_is_shown_first(monkeypatch):
    folder = record.find_model("isic2019")
    metrics = metrics_file.read(folder, None)
    assert metrics.saliency.shown_first == metrics.saliency.best == "rise"
    gain = metrics.saliency.gain | {"rise": 0.3}
    for low, first in ((0.2, "rise"), (-0.1, "grad-cam")):
        intervals = structs.replace(
            metrics.saliency.intervals,
            gain=metrics.saliency.intervals.gain | {"rise": (low, 0.4)},
        )
        saliency = structs.replace(metrics.saliency, best="rise", gain=gain, intervals=intervals)
        measured = structs.replace(metrics, saliency=saliency)
        monkeypatch.setattr(metrics_file, "read", lambda *_, measured=measured: measured)
        models._default_method.clear()
        assert models.default_method().key == first
    models._default_method.clear()


def test_the_evidence_follows_the_chosen_diagnosis_and_method(app, lesion):
    page = drop(app.run(), ("one.png", lesion))
    code = next(box for box in page.selectbox if box.label == "Saliency map for")
    last = cases_of(page)[0].assessment.prediction.ranking()[-1][0]
    code.set_value(last).run()
    assert not page.exception
    assert f"for {diagnosis(last).name}" in viewed(page)["shows"]
    of_all = next(method for method in METHODS if not method.class_specific)
    page.selectbox(key="method").set_value(of_all).run()
    assert "not class-specific" in viewed(page)["shows"]


def test_the_viewer_is_given_the_picture_and_the_square_that_the_network_saw(app):
    Image.fromarray(np.full((300, 400, 3), 180, np.uint8)).save(wide := io.BytesIO(), "PNG")
    page = drop(app.run(), ("wide.png", wide.getvalue()))
    page.toggle[0].set_value(True).run()  # An image of one colour has no reliable result.
    view = viewed(page)
    assert (view["width"], view["height"]) == (400, 300)
    assert view["box"] == pytest.approx([0.125, 0, 0.875, 1])
    picture = Image.open(io.BytesIO(base64.b64decode(view["picture"].partition(",")[2])))
    assert picture.size == (400, 300)
    assert "Image wide.png" in view["alt"]


def test_no_predictive_values_without_a_prevalence(app, lesion):
    page = drop(app.run(), ("one.png", lesion))
    assert page.number_input(key="prevalence").value is None
    assert "hundred" not in {chart.key for chart in page.get("plotly_chart")}
    assert "Of 100 patients" not in words(page)


def test_the_prevalence_of_the_clinic_is_remembered_and_gives_predictive_values(
    app, lesion, clinic_file
):
    page = drop(app.run(), ("one.png", lesion))
    page.number_input(key="prevalence").set_value(10.0).run()
    point = cases_of(page)[0].assessment.decision.operating_point
    values = PredictiveValues(point, 0.1)
    assert not page.exception
    assert "hundred" in {chart.key for chart in page.get("plotly_chart")}
    assert f"PPV {two_digits(values.positive)}" in words(page)
    assert f"NPV {two_digits(values.negative)}" in words(page)
    assert json.loads(clinic_file.read_text()) == {"operating_point": "balanced", "prevalence": 0.1}
    second_app = drop(
        AppTest.from_file(str(ROOT / "menu.py"), default_timeout=TIMEOUT_S).run(),
        ("one.png", lesion),
    )
    assert second_app.number_input(key="prevalence").value == 10.0


def test_the_operating_point_of_the_clinic_decides(model_folder, app, lesion, monkeypatch):
    monkeypatch.setenv("CADLIB_MODELS", str(model_folder.parent))
    page = drop(app.run(), ("one.png", lesion))
    points = record.read_record(model_folder).operating_points
    for point in points:
        page.segmented_control[0].set_value(point.name).run()
        assert not page.exception
        name = shown_name(point.name)
        assert f"(referral threshold {point.threshold:.2f}, {name})" in page.subheader[0].value
    assert len(points) == 3


def test_patient_facts_change_the_result_and_the_page_shows_the_change(
    taught_folder, app, lesion, monkeypatch
):
    monkeypatch.setenv("CADLIB_MODELS", str(taught_folder.parent))
    page = drop(app.run(), ("one.png", lesion))
    assert "No patient data: the result uses the image only" in words(page)
    key = cases_of(page)[0].key[:8]
    before = page.subheader[0].value
    page.selectbox(key=f"sex-{key}").set_value("male").run()
    assert not page.exception
    assert "The largest change was MEL Melanoma" in words(page)
    assert page.subheader[0].value != before
    page.switch_page("pages/saliency.py").run()
    page.switch_page("pages/diagnose.py").run()
    assert page.selectbox(key=f"sex-{key}").value == "male"
    page.selectbox(key=f"sex-{key}").set_value(None).run()
    assert page.subheader[0].value == before


def test_rotated_views_are_compared_with_the_threshold_without_patient_data(
    taught_folder, app, lesion, monkeypatch
):
    monkeypatch.setenv("CADLIB_MODELS", str(taught_folder.parent))
    calls = []
    about_the_turns = ui.about_the_turns

    def record_call(*args, **facts):
        calls.append((args[1], facts))
        return about_the_turns(*args, **facts)

    monkeypatch.setattr(ui, "about_the_turns", record_call)
    page = drop(app.run(), ("one.png", lesion))
    page.number_input(key=f"age-{cases_of(page)[0].key[:8]}").set_value(90).run()
    assert not page.exception
    alone = record.read_record(taught_folder).operating_point("balanced").threshold
    # The threshold of results with patient data is 0.123.
    assert "(referral threshold 0.12, " in page.subheader[0].value
    assert calls[-1] == (alone, {"with_facts": True})
    assert alone != 0.123
    assert "Rotated and mirrored, without patient data: " in words(page)


def test_the_page_of_a_model_without_metadata_has_no_facts(app, lesion):
    page = drop(app.run(), ("one.png", lesion))
    assert "Age, sex and site: tiny 0.1.0 uses the image only" in words(page)


def test_header_facts_are_filled_in_and_can_be_removed(taught_folder, app, lesion, monkeypatch):
    image_with_facts = replace(read_image(lesion), facts=PatientFacts(62.0, "male"))
    monkeypatch.setattr(session, "read_image", lambda _: image_with_facts)
    monkeypatch.setenv("CADLIB_MODELS", str(taught_folder.parent))
    page = drop(app.run(), ("one.dcm", lesion))
    key = cases_of(page)[0].key[:8]
    assert page.selectbox(key=f"sex-{key}").value == "male"
    assert page.number_input(key=f"age-{key}").value == 62
    assert "The largest change was MEL Melanoma" in words(page)
    page.selectbox(key=f"sex-{key}").set_value(None).run()
    page.number_input(key=f"age-{key}").set_value(None).run()
    assert not page.exception
    assert "No patient data: the result uses the image only" in words(page)


def test_a_model_without_metadata_shows_the_header_facts(app, lesion, monkeypatch):
    image_with_facts = replace(read_image(lesion), facts=PatientFacts(62.0, "male", "head/neck"))
    monkeypatch.setattr(session, "read_image", lambda _: image_with_facts)
    page = drop(app.run(), ("one.dcm", lesion))
    assert "uses the image only. From the file header: 62 years, male, head/neck." in words(page)


def test_removing_pictures_leads_back_to_the_empty_page(app, lesion):
    page = drop(app.run(), ("one.png", lesion), ("two.png", lesion))
    page.button(key="remove").click().run()
    assert len(cases_of(page)) == 1
    page.button(key="clear").click().run()
    assert cases_of(page) == []
    assert "Drop one or more" in words(page)


def test_downloads_hold_every_file_with_its_results_or_its_reason(app, lesion):
    page = drop(app.run(), ("=one.png", lesion), ("bad.jpg", b"no picture"))
    rows = list(csv.DictReader(io.StringIO(ui.cases_csv(cases_of(page)))))
    assert [row["file"] for row in rows] == ["'=one.png", "bad.jpg"]  # no formula in a spreadsheet
    assert sum(float(rows[0][code]) for code in CODES) == pytest.approx(1, abs=1e-4)
    assert rows[1]["error"]
    parsed = json.loads(ui.cases_json(cases_of(page)))
    assert parsed[0]["malignant_probability"] == pytest.approx(
        float(rows[0]["malignant_probability"]), abs=1e-6
    )
    assert parsed[1] == {"file": "bad.jpg", "error": cases_of(page)[1].reason}


def test_the_saliency_page_without_an_image_explains_uploading(app):
    page = opened(app, "saliency")
    assert "Add one on the Diagnose page" in words(page)
    page.button(key="synthetic").click().run()
    assert not page.exception
    assert len(cases_of(page)) == 1


def test_saliency_shows_every_method_for_the_top_diagnoses_of_the_current_picture(app, lesion):
    page = drop(app.run(), ("one.png", lesion)).switch_page("pages/saliency.py").run()
    assert not page.exception
    top = [code for code, _ in cases_of(page)[0].assessment.prediction.ranking()[:3]]
    maps = {str(button.key) for button in page.button if str(button.key).startswith("large-")}
    assert maps == {f"large-{code}-{method.key}" for code in top for method in GRID_METHODS}
    assert "not class-specific" in words(page)
    page.button(key=f"large-{top[2]}-layercam").click().run()
    large = [caption for caption in captions(page) if caption.startswith("LayerCAM")]
    assert len(large) == 1
    assert diagnosis(top[2]).name in large[0]


@pytest.fixture
def page_with_poor_maps(app, monkeypatch) -> AppTest:
    """Return the page of a lesion with poor maps of its top diagnosis by two methods."""
    poor = set()

    def trust_of(_model, _image, heatmap, code):
        # The first call is for the top diagnosis, on the Diagnose page.
        if not poor:
            poor.update({(code, METHODS[0].key), (code, METHODS[3].key)})
        return Trust(0.1 if (code, heatmap.method) in poor else 0.72, 0.81)

    monkeypatch.setattr(trust, "trust_of", trust_of)
    # No other test has measured the maps of this image.
    return drop(app.run(), ("one.png", demo_lesions()[4].png()))


def test_a_poor_map_has_a_warning_on_both_pages(page_with_poor_maps):
    page = page_with_poor_maps
    top = cases_of(page)[0].assessment.prediction.ranking()[0][0]
    assert "Do not interpret this map: hiding the highlighted regions" in words(page)
    page.switch_page("pages/saliency.py").run()
    assert not page.exception
    assert "Do not interpret this map: hiding the highlighted regions" in words(page)
    assert f"Grad-CAM for {diagnosis(top).name} · peak " in words(page)
    page.button(key=f"large-{top}-grad-cam++").click().run()
    assert "Do not interpret this map" not in words(page)
    assert "· faithfulness 0.72 · stability 0.81" in words(page)


def test_every_map_shows_its_trust_and_a_poor_one_is_marked(page_with_poor_maps):
    page = page_with_poor_maps.switch_page("pages/saliency.py").run()
    assert not page.exception
    captions = [caption.value for caption in page.caption]
    tiles = [caption for caption in captions if "  \nfaithfulness " in caption]
    assert len(tiles) == 3 * len(GRID_METHODS)
    # Each map has its own peak, which stands in the first line.
    marked = [tile.partition("\n")[2] for tile in tiles if "do not interpret" in tile]
    warning = (
        "faithfulness 0.10  \nstability 0.81  \n:material/visibility_off: **do not interpret**"
    )
    assert marked == [warning, warning]


def test_a_map_is_measured_late_and_once(app, monkeypatch):
    measured = []
    trust_of = trust.trust_of

    def record_call(*arguments):
        measured.append(arguments[2:])
        return trust_of(*arguments)

    monkeypatch.setattr(trust, "trust_of", record_call)
    # No other test has measured the maps of this image.
    page = drop(app.run(), ("one.png", demo_lesions()[5].png()))
    # The Diagnose page shows one map.
    assert len(measured) == 1
    page.switch_page("pages/saliency.py").run()
    assert len(measured) == 3 * len(GRID_METHODS)
    next(button for button in page.button if str(button.key).endswith("-layercam")).click().run()
    assert len(measured) == 3 * len(GRID_METHODS)


def test_saliency_takes_up_to_eight_diagnoses_and_none_is_no_error(app, lesion):
    page = drop(app.run(), ("one.png", lesion)).switch_page("pages/saliency.py").run()
    page.multiselect[0].set_value(list(CODES)).run()
    assert not page.exception
    assert len([b for b in page.button if str(b.key).startswith("large-")]) == 8 * len(GRID_METHODS)
    page.multiselect[0].set_value([]).run()
    assert not page.exception
    assert "at least one" in page.info[0].value


def test_without_a_data_set_the_page_explains_the_download_and_marks_synthetic_lesions(app):
    page = opened(app, "dataset")
    assert not page.exception
    assert "challenge.isic-archive.com/data/#2019" in page.info[0].value
    assert len(tiles(page)) == 24
    assert all("synthetic" in label for label in labels(page))


@pytest.fixture
def browser(app, synthetic_dataset):
    """Return the Dataset page on twelve drawn lesions a class, in the layout of ISIC."""
    page = opened(app, "dataset")
    page.text_input(key="folder").set_value(str(synthetic_dataset)).run()
    assert not page.exception
    return page


def count(page: AppTest, key: str, value: str) -> int:
    """Return the count that a filter shows beside a value."""
    option = next(text for text in page.pills(key=key).options if f" {value} " in f" {text}")
    return int(option.split()[-1].replace(",", ""))


def test_the_gallery_shows_a_page_of_labelled_samples(browser):
    first = tiles(browser)
    assert len(first) == 24
    assert mounted(browser, "tiles")[0]["pages"] == 4
    last = tiles(turned(browser, 4))
    assert len(last) == 24
    assert not {tile["image"] for tile in first} & {tile["image"] for tile in last}
    assert all(tile["picture"].startswith("data:image/jpeg;base64,") for tile in last)
    assert not any("synthetic" in label for label in labels(browser))


@pytest.mark.parametrize(
    "wanted_page",
    [None, 7, {}, {"page": 9, "shown": 9}, {"page": "2", "shown": -1}, {"page": True}],
)
def test_an_invalid_page_number_gives_an_existing_page(browser, wanted_page):
    if wanted_page and isinstance(wanted_page, dict):
        wanted_page = {"of": mounted(browser, "tiles")[0]["of"], **wanted_page}
    said_by_browser(browser, wants=wanted_page)
    assert not browser.exception
    tiles_mounted = mounted(browser, "tiles")[0]
    assert tiles_mounted["page"] in (1, None)
    assert tiles_mounted["shown"] == 1


def test_a_filter_narrows_the_gallery_and_the_counts_of_the_others_follow(browser):
    women = count(browser, "facet-sex", "female")
    turned(browser, 4)
    browser.pills(key="facet-diagnosis").set_value(["MEL"]).run()
    assert not browser.exception
    assert len(tiles(browser)) == 12
    assert all(label == "▲ MEL" for label in labels(browser))
    assert 0 < count(browser, "facet-sex", "female") < women
    assert count(browser, "facet-diagnosis", "NV") == 12  # The count that NV would add.
    browser.slider(key="facet-age_approx").set_value((0, 5)).run()
    assert not browser.exception
    assert tiles(browser) == []


def test_a_range_shows_how_many_images_have_which_number_and_the_counts_follow_the_other_filters(
    browser, synthetic_dataset
):
    def bars() -> list[int]:
        drawing = next(
            html.proto.body for html in browser.get("html") if "Age (years)" in html.proto.body
        )
        return [
            int(count.replace(",", ""))
            for count in re.findall(r'title="from [0-9]+: ([0-9,]+)"', drawing)
        ]

    table = open_dataset(synthetic_dataset).table
    for codes in ([], ["MEL", "NV"]):
        browser.pills(key="facet-diagnosis").set_value(codes).run()
        ages = table[table["diagnosis"].isin(codes or CODES)]["age_approx"].dropna()
        assert bars() == [((ages >= low) & (ages < low + 5)).sum() for low in range(0, 120, 5)]
    browser.slider(key="facet-age_approx").set_value((20, 40)).run()
    assert bars() == [((ages >= low) & (ages < low + 5)).sum() for low in range(0, 120, 5)]


def test_an_image_is_found_by_a_part_of_its_id(browser):
    browser.text_input(key="facet-text").set_value("isic_900000").run()
    assert sorted(tile["image"] for tile in tiles(browser)) == [
        f"ISIC_900000{number}" for number in range(10)
    ]


def test_a_selection_is_saved_under_a_name_and_reopened(browser, synthetic_dataset):
    browser.pills(key="facet-diagnosis").set_value(["MEL", "BCC"]).run()
    browser.pills(key="facet-sex").set_value(["female"]).run()
    browser.text_input(key="subset-name").set_value("malignant women").run()
    browser.button(key="save-subset").click().run()
    assert not browser.exception
    subset = read_subset("malignant women")
    assert subset.chosen == "Diagnosis MEL, BCC; Sex female"
    table = open_dataset(synthetic_dataset).table
    expected = table[table["diagnosis"].isin(["MEL", "BCC"]) & (table["sex"] == "female")]["image"]
    assert list(subset.images) == expected.tolist()
    for facet in ("facet-diagnosis", "facet-sex"):
        browser.pills(key=facet).set_value([])
    browser.selectbox(key="facet-subset").select("malignant women").run()
    assert not browser.exception
    assert mounted(browser, "tiles")[0]["about"] == f"{len(expected)} images"
    assert count(browser, "facet-diagnosis", "NV") == 0


def test_a_saved_selection_is_narrowed(browser, synthetic_dataset):
    table = open_dataset(synthetic_dataset).table
    expected = table[table["diagnosis"].isin(["MEL", "BCC"]) & (table["sex"] == "female")]["image"]
    save_subset(Subset("malignant women", "drawn", tuple(expected), "malignant, female"))
    browser.run()
    browser.selectbox(key="facet-subset").select("malignant women").run()
    browser.pills(key="facet-diagnosis").set_value(["BCC"]).run()
    browser.text_input(key="subset-name").set_value("of these").run()
    browser.button(key="save-subset").click().run()
    assert read_subset("of these").chosen == "subset malignant women; Diagnosis BCC"


def test_an_unreadable_subset_is_reported_and_all_images_stay(browser, subsets_folder):
    subsets_folder.mkdir()
    (subsets_folder / "broken.csv").write_text("image\nISIC_9000000\n")
    browser.run()
    browser.selectbox(key="facet-subset").select("broken").run()
    assert "to begin with a line like" in browser.error[0].value
    assert len(tiles(browser)) == 24


def test_an_invalid_subset_name_is_refused(browser):
    browser.text_input(key="subset-name").set_value("../escape").run()
    browser.button(key="save-subset").click().run()
    assert not browser.exception
    assert "Expected a name of 1 to 60 letters" in browser.error[0].value
    assert list_subsets() == []


def test_another_folder_forgets_the_filters_of_the_last(browser):
    browser.pills(key="facet-diagnosis").set_value(["MEL"]).run()
    browser.text_input(key="folder").set_value("").run()
    assert not browser.exception
    assert len(tiles(browser)) == 24


def test_a_folder_that_holds_no_data_set_is_refused_in_words(app, tmp_path):
    page = opened(app, "dataset")
    (tmp_path / "set_Input").symlink_to(tmp_path / "gone")
    for folder in (tmp_path, tmp_path / "nowhere", "~nosuch/x", "x" * 5000):
        page.text_input(key="folder").set_value(str(folder)).run()
        assert not page.exception
        assert "Expected" in page.error[0].value


def test_a_folder_outside_of_the_data_is_refused(app, synthetic_dataset, tmp_path, monkeypatch):
    monkeypatch.delenv("CADLIB_LOCAL_FOLDERS")
    shutil.copytree(synthetic_dataset, tmp_path / "data" / "own")
    monkeypatch.setenv("CADLIB_DATA", str(tmp_path / "data"))
    page = opened(app, "dataset")
    page.text_input(key="folder").set_value(str(synthetic_dataset)).run()
    assert not page.exception
    assert "Expected a folder below CADLIB\\_DATA" in page.error[0].value
    page.text_input(key="folder").set_value("own").run()
    assert not page.error
    assert len(tiles(page)) == 24


def test_the_folder_field_is_disabled_without_an_allowed_folder(app, monkeypatch):
    monkeypatch.delenv("CADLIB_LOCAL_FOLDERS")
    page = opened(app, "dataset")
    assert page.text_input(key="folder").disabled
    assert len(tiles(page)) == 24


def test_a_sample_opens_large_with_a_prediction_on_request(browser):
    image = open_first(browser)
    assert ui.plain(image) in words(browser)
    assert "threshold" not in words(browser)
    browser.toggle(key="ask").set_value(True).run()
    assert not browser.exception
    assert "threshold" in words(browser)


def test_the_result_of_an_unknown_sample_is_hidden_until_requested(browser, monkeypatch):
    gallery = import_module("cadlib.ui.gallery")
    assess_file = gallery.assess_file

    def assess_as_unknown(path: str):
        assessment = assess_file(path)
        return replace(assessment, prediction=replace(assessment.prediction, novelty=Novelty(1.7)))

    monkeypatch.setattr(gallery, "assess_file", assess_as_unknown)
    open_first(browser)
    browser.toggle(key="ask").set_value(True).run()
    assert not browser.exception
    assert "does not look like the dermoscopic images" in browser.warning[0].value
    assert "not similar to the training images (novelty 1.70, limit 1)" in words(browser)
    assert "threshold" not in words(browser)
    next(toggle for toggle in browser.toggle if str(toggle.key).startswith("anyway-")).set_value(
        True
    ).run()
    assert "threshold" in words(browser)
    assert "does not look like the dermoscopic images" in browser.warning[0].value


def test_the_heatmap_of_a_sample_shows_its_trust(browser):
    open_first(browser)
    browser.toggle(key="ask").set_value(True).run()
    assert not browser.exception
    assert re.search(r"Grad-CAM for .* · peak .* · faithfulness .* · stability ", words(browser))
    assert "Do not interpret this map" in words(
        browser
    ) or "Hiding the highlighted regions changes the result" in words(browser)


def test_an_unreadable_sample_is_named_in_its_tile_and_beside_the_map(
    app, synthetic_dataset, tmp_path
):
    copied = Path(shutil.copytree(synthetic_dataset, tmp_path / "spoilt"))
    image = min((copied / "ISIC_2019_Training_Input").iterdir())
    image.write_bytes(image.read_bytes()[: int(0.6 * image.stat().st_size)])
    page = opened(app, "dataset")
    page.text_input(key="folder").set_value(str(copied)).run()
    assert not page.exception
    assert "incomplete or damaged" in tiles(page)[0]["why"]
    assert all("why" not in tile for tile in tiles(page)[1:])
    look_at_map(page)
    assert "1 image is not on the map because it cannot be read" in words(page)


@pytest.mark.usefixtures("real_sizes")
def test_the_real_data_set_opens(app, data_dir, monkeypatch):
    monkeypatch.setenv("CADLIB_DATA", str(data_dir))
    page = opened(app, "dataset")
    assert not page.exception
    assert "usable" in page.expander[0].label
    assert len(tiles(page)) == 24


def test_performance_shows_each_headline_metric_with_its_n(app):
    page = opened(app, "performance")
    assert not page.exception
    assert [metric.label for metric in page.metric] == [
        "Balanced accuracy", "AUC, malignant or benign", "AUC, melanoma or other", "Calibration error (ECE)",
    ]  # fmt: skip
    assert words(page).count("n = ") >= 2
    assert re.search(r"95 % CI 0\.\d\d to \d\.\d\d · \d+ malignant of \d+ images", words(page))
    assert re.search(r"· \d+ melanoma of \d+ images", words(page))
    assert len(page.get("plotly_chart")) == 7
    assert "It knows nothing." in "".join(html.proto.body for html in page.get("html"))


def test_the_interval_of_the_calibration_error_has_a_note(app, tiny_models):
    measured = json.loads((tiny_models / "tiny" / record.METRICS_FILE).read_text(encoding="utf-8"))
    page = opened(app, "performance")
    tile = next(metric for metric in page.metric if metric.label == "Calibration error (ECE)")
    low, high = measured["intervals"]["ece"]
    assert (
        tile.value == f"{measured['ece']:.2f}"
    )  # without an interval, for that is not of this value
    note = f"0 is best · n = {measured['n']} · without the effect of chance: 95 % CI {low:.2f} to {high:.2f}"
    assert note in [caption.value for caption in page.caption]


def test_the_performance_page_explains_missing_robustness_results(app):
    page = opened(app, "performance")
    assert "Robustness to image degradation" in [heading.value for heading in page.subheader]
    assert "python -m cadlib robustness --model tiny" in page.info[0].value


def test_performance_shows_the_loss_on_degraded_images(app, tiny_models, across_damage):
    path = tiny_models / "tiny" / record.METRICS_FILE
    before = path.read_text(encoding="utf-8")
    measured = across_damage(record.read_record(path.parent))
    parsed = json.loads(metrics_file.metrics_json(measured))
    try:
        change_file(
            path.parent, path.name, json.dumps({**json.loads(before), "robustness": parsed})
        )
        page = opened(app, "performance")
        assert not page.exception
        assert len(page.get("plotly_chart")) == 8
        rate = parsed["flips"]["rate"]
        assert rate["any"] > rate["mean"]
        assert f"The top diagnosis changes in {ui.percent(rate['mean'])} of the views" in words(
            page
        )
        assert f"in at least one view for {ui.percent(rate['any'])} of the images" in words(page)
        redrawn = page.segmented_control(key="merit").set_value("malignant_auc").run()
        assert not redrawn.exception
    finally:
        change_file(path.parent, path.name, before)


def audited(models: Path, **leaks: int) -> Path:
    """Give the tiny model an audit with these leaks; return its model.json."""
    path = models / "tiny" / record.RECORD_FILE
    raw = record.read_json(path)
    audit = audit_of(raw["training"]["split_sha256"], **leaks)
    change_record(models / "tiny", {"audit": msgspec.to_builtins(audit)}, golden=False)
    return path


@pytest.mark.parametrize("name", PAGES)
def test_no_page_calls_a_model_whose_split_leaks_validated(app, tiny_models, name):
    before = (tiny_models / "tiny" / record.RECORD_FILE).read_text(encoding="utf-8")
    try:
        path = audited(tiny_models, shared_lesions=3)
        page = opened(app, name)
    finally:
        change_file(path.parent, path.name, before)
    assert not page.exception
    texts = [*words(page).splitlines(), *(str(badge.proto) for badge in page.markdown)]
    assert any("NOT validated" in line and "3 lesion ids" in line for line in texts)
    assert not [line for line in texts if re.search(r"(?<!NOT )\bvalidated", line)]


def test_performance_names_the_passed_leak_audit(app):
    page = opened(app, "performance")
    assert "Leak audit passed: no image or lesion was found in more than one split." in words(
        page
    ).replace("\\", "")
    assert "validated" not in words(page)
    assert not page.warning


@pytest.mark.parametrize("name", PAGES)
def test_every_page_warns_of_a_model_without_an_audit(app, tiny_models, name):
    path = tiny_models / "tiny" / record.RECORD_FILE
    before = path.read_text(encoding="utf-8")
    try:
        change_record(path.parent, {"audit": None}, golden=False)
        page = opened(app, name)
    finally:
        change_file(path.parent, path.name, before)
    warning = page.warning[0].value.replace("\\", "")
    assert warning.startswith(
        "tiny 0.1.0: not audited: it is not known whether evaluation lesions were also used"
    )
    assert "python -m cadlib audit --model tiny --data DIR --into-model" in warning


def test_performance_shows_the_test_split_first_and_validation_on_request(app, tiny_models):
    path = tiny_models / "tiny" / record.METRICS_FILE
    before = path.read_text(encoding="utf-8")
    validation = json.loads(before)
    test = {
        **validation,
        "data": {"name": "drawn", "split": "test", "images": 150},
        "balanced_accuracy": 0.77,
    }
    try:
        change_file(path.parent, path.name, json.dumps({**test, "validation": validation}))
        page = opened(app, "performance")
        assert page.metric[0].value == "0.77"
        assert "on the test split of drawn" in words(page)
        assert "not used for training, calibration or thresholds" in words(page)
        page.segmented_control(key="split").set_value("validation").run()
        assert page.metric[0].value == f"{validation['balanced_accuracy']:.2f}"
        assert "were chosen on these images" in words(page)
    finally:
        change_file(path.parent, path.name, before)
    assert not page.exception


def test_metrics_of_an_earlier_version_are_requested_again(app, tiny_models):
    path = tiny_models / "tiny" / record.METRICS_FILE
    before = path.read_text(encoding="utf-8")
    metrics = json.loads(before)
    del metrics["intervals"]
    try:
        change_file(path.parent, path.name, json.dumps(metrics))
        page = opened(app, "performance")
    finally:
        change_file(path.parent, path.name, before)
    assert not page.exception
    assert "into-model" in page.error[0].value.replace("\\", "")


def test_an_undefined_metric_is_shown_as_not_defined(app, tiny_models):
    path = tiny_models / "tiny" / record.METRICS_FILE
    before = path.read_text(encoding="utf-8")
    try:
        change_file(
            path.parent, path.name, json.dumps({**json.loads(before), "malignant_auc": None})
        )
        page = opened(app, "performance")
    finally:
        change_file(path.parent, path.name, before)
    assert not page.exception
    assert page.metric[1].value == "not defined"


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("a_b.png", r"a\_b.png"),
        ("*x*", r"\*x\*"),
        ("[a](b)", r"\[a\]\(b\)"),
        ("$1$ :red[x]", r"\$1\$ \:red\[x\]"),
    ],
)
def test_a_file_name_is_no_markdown(name, escaped):
    assert ui.plain(name) == escaped


def look_at_map(page: AppTest) -> None:
    """Open the map and wait for it: it is made behind the page."""
    page.segmented_control(key="view").set_value("Map").run()
    deadline = time.monotonic() + TIMEOUT_S
    while not page.get("plotly_chart"):
        assert not page.exception
        assert time.monotonic() < deadline
        time.sleep(0.1)
        page.run()


def test_the_dataset_page_has_a_map_counts_and_lists_of_findings(browser):
    browser.pills(key="facet-diagnosis").set_value(["MEL"]).run()
    browser.segmented_control(key="view").set_value("Class counts").run()
    assert not browser.exception
    assert "Melanoma 12" in browser.get("plotly_chart")[0].proto.alt
    browser.segmented_control(key="view").set_value("Data review").run()
    assert not browser.exception
    assert "python -m cadlib suspects --data" in browser.code[-1].value
    look_at_map(browser)
    assert len(browser.get("plotly_chart")) == 1
    assert tiles(browser) == []  # until something is chosen
    browser.selectbox(key="dataset-map-part").select_index(0).run()
    assert not browser.exception
    assert 0 < len(tiles(browser)) <= 12
    assert all(label == "▲ MEL" for label in labels(browser))


def malignant_probabilities(predictions: pd.DataFrame) -> pd.Series:
    """Return by image the sum of the probabilities of the malignant diagnoses."""
    return predictions[[code for code in CODES if diagnosis(code).malignant]].sum(axis=1)


def wait_for_job(name: str) -> None:
    """Wait until a job has ended, and check that it was not stopped and did not fail."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (job := jobs.find(name)).ended:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert job.state == "done", job.reason


def check_verdict_facets(browser, dataset, predicted: pd.Series) -> None:
    """Check the counts of correct and incorrect predictions, and the predicted diagnoses offered."""
    truth = dataset.table.set_index("image")["diagnosis"]
    assert count(browser, "facet-verdict", "correct") == (predicted == truth).sum()
    assert count(browser, "facet-verdict", "incorrect") == (predicted != truth).sum()
    options = browser.pills(key="facet-said").options
    for code in CODES:
        offered = sum(f" {code} " in f" {text}" for text in options)
        assert offered == (code in set(predicted))


def test_the_predictions_of_the_model_become_facets_orders_and_marks(
    browser, synthetic_dataset, tiny_models
):
    assert not [pills for pills in browser.pills if pills.key == "facet-verdict"]
    browser.button(key="evaluate-tiny").click().run()
    dataset = ui.dataset(str(synthetic_dataset))
    folder = evaluation_folder(record.read_record(tiny_models / "tiny"), dataset)
    wait_for_job(folder.name)
    assert not browser.run().exception
    predictions = pd.read_csv(folder / "predictions.csv").set_index("image")
    check_verdict_facets(browser, dataset, predictions[list(CODES)].idxmax(axis=1))
    browser.selectbox(key="facet-order").select("risk").run()
    risk = malignant_probabilities(predictions)
    first_image = tiles(browser)[0]["image"]
    assert risk[first_image] == pytest.approx(risk.max(), abs=1e-6)
    browser.pills(key="facet-verdict").set_value(["wrong"]).run()
    assert not browser.exception
    shown_labels = labels(browser)
    assert shown_labels
    assert all(" · predicted " in label for label in shown_labels)
