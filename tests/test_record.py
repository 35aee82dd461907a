import json

import pytest

from cadlib.errors import ModelInvalid
from cadlib.record import RECORD_FILE, find_model, list_models, models_dir, read_record
from cadlib.validation import CONTRADICTIONS, LEAKS, LeakAudit


@pytest.fixture
def folder(model_folder):
    return model_folder


def audit_of(split_sha256, **changes):
    found = {**dict.fromkeys(LEAKS, 0), "contradictions": dict.fromkeys(CONTRADICTIONS, 0), "named": (), **changes}
    return LeakAudit("2026-01-01T00:00:00+00:00", "isic2019", split_sha256, {"train": 3}, **found)


def audit_json(raw, **changes):
    return audit_of(raw["training"]["split_sha256"], **changes).to_json()


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
        (lambda raw: raw.update(format_version=1), "format version 5"),
        (lambda raw: raw.update(surprise=1), "does not know: surprise"),
        (lambda raw: raw.update(codes=raw["codes"][::-1]), "in this order"),
        (lambda raw: raw["temperature"].update(small=0.0), "temperature"),
        (lambda raw: raw.update(temperature=1.0), "does not fit"),
        (lambda raw: raw.update(bias=[0.0] * 7), "8 numbers"),
        (lambda raw: raw.update(bias=[0.0] * 7 + [float("nan")]), "8 numbers"),
        (lambda raw: raw.update(bias=None), "does not fit"),
        (lambda raw: raw["input"].pop("mean"), "does not fit"),
        (lambda raw: raw["input"].update(size_px=1), "does not fit"),
        *(
            (lambda raw, key=key: raw["operating_points"][0].pop(key), f"lacks {key}")
            for key in ("threshold", "split", "intervals", "n_benign")
        ),
        (lambda raw: raw["operating_points"][0].update(split="train"), "`split` of rule-out"),
        (lambda raw: raw["operating_points"][0]["intervals"].pop("specificity"), "does not fit"),
        (lambda raw: raw["operating_points"][0]["intervals"].update(specificity=[1, 0]), "interval of `specificity`"),
        (lambda raw: raw["operating_points"][0].update(specificity=None), "does not fit"),
        (lambda raw: raw["operating_points"][0].update(threshold=float("nan")), "`threshold` of rule-out"),
        (lambda raw: raw["operating_points"][0].update(threshold=19.5), "`threshold` of rule-out"),
        (lambda raw: raw["operating_points"][0].update(threshold="0.2"), "does not fit"),
        (lambda raw: raw["operating_points"][0].update(sensitivity=95), "`sensitivity` of rule-out"),
        (lambda raw: raw.update(weights_sha256=5), "weights_sha256"),
        (lambda raw: raw.update(audit={}), "does not fit"),
        (lambda raw: raw.update(audit="passed"), "does not fit"),
        (lambda raw: raw.update(audit=audit_of(split_sha256="0" * 64).to_json()), "of the split"),
        (lambda raw: raw.update(audit=audit_json(raw) | {"near_duplicates": 1}), "`leaks`"),
        (lambda raw: raw.update(audit=audit_json(raw) | {"near_duplicates": -1}), "to be a count"),
        (lambda raw: raw.update(metadata={}), "does not fit"),
        (lambda raw: raw.update(neighbours={}), "does not fit"),
        (lambda raw: raw["novelty"].pop("limit"), "does not fit"),
        (lambda raw: raw["novelty"].update(limit=0.0), "positive numbers"),
        (lambda raw: raw["novelty"].update(known_share=99.5), "share up to 1"),
        (lambda raw: raw["novelty"].update(sha256=5), "hash of novelty.safetensors"),
    ],
)
def test_refuses_a_record_that_is_wrong(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(ModelInvalid, match=message):
        read_record(folder)


def test_a_model_that_nobody_audited_is_not_validated(folder):
    rewrite(folder, lambda raw: raw.update(audit=None))
    record = read_record(folder)
    assert not record.validated
    assert record.validation_claim.startswith("not audited")


def test_an_audit_without_a_leak_validates_a_model(folder):
    rewrite(folder, lambda raw: raw.update(audit=audit_json(raw)))
    record = read_record(folder)
    assert record.validated
    assert record.validation_claim == "validated on lesions it was not trained on"
    assert json.loads(json.dumps(record.to_json())) == json.loads((folder / RECORD_FILE).read_text())


def test_an_audit_that_found_a_leak_is_read_as_one(folder):
    rewrite(folder, lambda raw: raw.update(audit=audit_json(raw, identical_files=2)))
    record = read_record(folder)
    assert not record.validated
    assert record.validation_claim.startswith("NOT validated: its split leaks, 2 pairs of byte-identical files")


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


def test_a_model_that_never_tried_metadata_and_one_that_tried_it_in_vain_take_none(untaught_folder):
    assert read_record(untaught_folder).evidence is None
    in_vain = {"differences": {}, "evidence": None, "operating_points": []}
    rewrite(untaught_folder, lambda raw: raw.update(metadata=in_vain))
    record = read_record(untaught_folder)
    assert record.evidence is None
    assert record.metadata is not None


def test_the_evidence_of_a_model_comes_back_with_its_own_operating_points(taught_folder):
    record = read_record(taught_folder)
    assert json.loads(json.dumps(record.to_json())) == json.loads((taught_folder / RECORD_FILE).read_text())
    assert record.required_evidence() is record.metadata.evidence
    assert record.operating_point("balanced", with_facts=True).threshold == 0.123
