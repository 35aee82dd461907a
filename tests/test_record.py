import json

import pytest

from cadlib.errors import ModelInvalid
from cadlib.record import RECORD_FILE, find_model, list_models, models_dir, read_record


@pytest.fixture
def folder(model_folder):
    return model_folder


def rewrite(folder, change):
    raw = json.loads((folder / RECORD_FILE).read_text())
    change(raw)
    (folder / RECORD_FILE).write_text(json.dumps(raw))


def test_what_is_written_is_read_back_whole(folder):
    record = read_record(folder)
    assert json.loads(json.dumps(record.to_json())) == json.loads((folder / RECORD_FILE).read_text())


def test_every_missing_key_is_an_error(folder):
    keys = [key for key in json.loads((folder / RECORD_FILE).read_text()) if key != "format_version"]
    for key in keys:
        original = (folder / RECORD_FILE).read_text()
        rewrite(folder, lambda raw, key=key: raw.pop(key))
        with pytest.raises(ModelInvalid, match=f"lacks {key}"):
            read_record(folder)
        (folder / RECORD_FILE).write_text(original)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(format_version=2), "format version 1"),
        (lambda raw: raw.update(surprise=1), "does not know: surprise"),
        (lambda raw: raw.update(codes=raw["codes"][::-1]), "in this order"),
        (lambda raw: raw.update(temperature=0.0), "temperature"),
        (lambda raw: raw["input"].pop("mean"), "does not fit"),
        (lambda raw: raw["input"].update(size_px=1), "does not fit"),
        (lambda raw: raw["operating_points"][0].pop("threshold"), "does not fit"),
        (lambda raw: raw["operating_points"][0].update(threshold=float("nan")), "`threshold` of rule-out"),
        (lambda raw: raw["operating_points"][0].update(threshold=19.5), "`threshold` of rule-out"),
        (lambda raw: raw["operating_points"][0].update(threshold="0.2"), "does not fit"),
        (lambda raw: raw["operating_points"][0].update(sensitivity=95), "`sensitivity` of rule-out"),
        (lambda raw: raw.update(weights_sha256=5), "weights_sha256"),
    ],
)
def test_refuses_a_record_that_is_wrong(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(ModelInvalid, match=message):
        read_record(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_refuses_a_record_that_is_no_json_object(folder, content):
    (folder / RECORD_FILE).write_bytes(content)
    with pytest.raises(ModelInvalid, match=r"model\.json"):
        read_record(folder)


def test_a_model_is_found_by_name_and_by_path(folder):
    assert find_model("isic2019") == models_dir() / "isic2019"
    assert find_model(folder) == folder


def test_an_unknown_model_is_refused_with_the_names_at_hand():
    with pytest.raises(ModelInvalid, match=r"'nonesuch'.*isic2019"):
        find_model("nonesuch")


def test_the_models_folder_can_be_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path))
    assert list_models() == []


def test_a_model_that_is_being_written_is_not_listed(model_folder, monkeypatch):
    monkeypatch.setenv("CADLIB_MODELS", str(model_folder.parent))
    assert list_models() == ["spoilt"]
    model_folder.rename(model_folder.with_name(".spoilt.part"))
    assert list_models() == []


def test_an_operating_point_is_found_by_its_name(folder):
    record = read_record(folder)
    assert record.operating_point("balanced").name == "balanced"
    with pytest.raises(ModelInvalid, match="rule-out"):
        record.operating_point("nonesuch")
