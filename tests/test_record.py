import json

import msgspec
import pytest

from cadlib.data.contradictions import CONTRADICTIONS
from cadlib.errors import ModelInvalid
from cadlib.model.audit_result import AUDIT_PASSED, LEAKS, LeakAudit
from cadlib.model.manifest import MANIFEST_FILE
from cadlib.model.record import (
    RECORD_FILE,
    find_model,
    list_models,
    models_dir,
    read_record,
)
from tests.model_folders import change_record, edit_record


@pytest.fixture
def folder(model_folder):
    return model_folder


def audit_of(split_sha256, **changes):
    fields = {
        **dict.fromkeys(LEAKS, 0),
        "contradictions": dict.fromkeys(CONTRADICTIONS, 0),
        "named": (),
        **changes,
    }
    leaks = any(fields[name] for name in LEAKS)
    return LeakAudit(
        "2026-01-01T00:00:00+00:00", "isic2019", split_sha256, {"train": 3}, **fields, leaks=leaks
    )


def audit_json(raw, **changes):
    audit = audit_of(raw["training"]["split_sha256"], **changes)
    return msgspec.to_builtins(audit)


def test_the_record_is_read_back_whole(folder):
    record = read_record(folder)
    assert json.loads(json.dumps(record.to_json())) == json.loads(
        (folder / RECORD_FILE).read_text()
    )


def test_every_missing_key_is_an_error(folder):
    keys = [
        key for key in json.loads((folder / RECORD_FILE).read_text()) if key != "format_version"
    ]
    for key in keys:
        original = (folder / RECORD_FILE).read_text()
        edit_record(folder, lambda raw, key=key: raw.pop(key))
        with pytest.raises(ModelInvalid) as refused:
            read_record(folder)
        assert f"`$.{key}`" in str(refused.value)
        assert "is missing" in str(refused.value)
        (folder / RECORD_FILE).write_text(original)


def first_point(**changes):
    return lambda raw: raw["operating_points"][0].update(changes)


def drop(*path):
    def change(raw):
        for key in path[:-1]:
            raw = raw[key]
        del raw[path[-1]]

    return change


def of_network(**changes):
    return lambda raw: raw["members"][0].update(changes)


DEEP = "[" * 100_000
WRONG = [
    ({"format_version": 1}, "`$.format_version`"),
    ({"surprise": 1}, "`$.surprise`"),
    ({"a\nb": 1}, "`$.a b`"),
    ({"x" * 10**6: 1}, "`$.xxx"),
    ({"codes": ["SCC", "VASC", "DF", "BKL", "AK", "BCC", "NV", "MEL"]}, "in this order"),
    ({"temperature": {"small": 0.0, "large": 1.0}}, "`$.temperature.small`"),
    ({"temperature": {"small": 1e-300, "large": 1.0}}, "`$.temperature.small`"),
    ({"temperature": {"small": 10**400, "large": 1.0}}, "`$.temperature.small`"),
    ({"temperature": 1.0}, "`$.temperature`"),
    ({"bias": [0.0] * 7}, "`$.bias`"),
    ({"bias": [0.0] * 7 + [None]}, "`$.bias[7]`"),
    ({"bias": [0.0] * 7 + [10**400]}, "`$.bias[7]`"),
    ({"bias": None}, "`$.bias`"),
    (drop("input", "mean"), "`$.input.mean`"),
    (lambda raw: raw["input"].update(size_px=1), "`$.input.size_px`"),
    (lambda raw: raw["input"].update(size_px=10**9), "`$.input.size_px`"),
    (lambda raw: raw["input"].update(interpolation="nearest"), "`$.input.interpolation`"),
    (lambda raw: raw["input"].update(std=[0.5, 0.5, 0.0]), "`$.input.std[2]`"),
    (drop("conformal", "quantiles", "SCC"), "`$.conformal.quantiles.SCC`"),
    (lambda raw: raw["conformal"]["quantiles"].update(SCC=1.5), "`$.conformal.quantiles.SCC`"),
    (lambda raw: raw["conformal"]["quantiles"].update(XYZ=0.5), "`$.conformal.quantiles.XYZ`"),
    *(
        (drop("operating_points", 0, key), f"`$.operating_points[0].{key}`")
        for key in ("threshold", "split", "n_benign")
    ),
    (first_point(split="train"), "`$.operating_points[0].split`"),
    (first_point(intervals={"sensitivity": None}), "`$.operating_points[0].intervals.specificity`"),
    (
        first_point(intervals={"sensitivity": None, "specificity": [1, 0]}),
        "interval of `specificity`",
    ),
    (first_point(specificity=None), "`$.operating_points[0].specificity`"),
    (first_point(threshold=19.5), "`$.operating_points[0].threshold`"),
    (first_point(threshold="0.2"), "`$.operating_points[0].threshold`"),
    (first_point(threshold=True), "`$.operating_points[0].threshold`"),
    (first_point(name="balanced"), "operating points of different names"),
    ({"operating_points": []}, "`$.operating_points`"),
    (lambda raw: raw["operating_points"].pop(1), "one of them 'balanced'"),
    (of_network(weights_sha256=5), "`$.members[0].weights_sha256`"),
    (of_network(weights_sha256="../../etc/passwd"), "`$.members[0].weights_sha256`"),
    (of_network(fold=-1), "`$.members[0].fold`"),
    (drop("members", 0, "run", "seed"), "`$.members[0].run.seed`"),
    ({"members": []}, "`$.members`"),
    (lambda raw: raw.update(members=17 * raw["members"]), "`$.members`"),
    ({"views": 4}, "`$.views`"),
    (drop("views"), "`$.views`"),
    ({"average": "median"}, "`$.average`"),
    (drop("input", "symmetric"), "`$.input.symmetric`"),
    ({"name": "a\nb"}, "`$.name`"),
    ({"name": "x" * 10**6}, "`$.name`"),
    ({"audit": {}}, "`$.audit.created`"),
    ({"audit": "passed"}, "`$.audit`"),
    ({"audit": msgspec.to_builtins(audit_of(split_sha256="0" * 64))}, "of the split"),
    (lambda raw: raw.update(audit=audit_json(raw) | {"near_duplicates": 1}), "`leaks`"),
    (
        lambda raw: raw.update(audit=audit_json(raw) | {"near_duplicates": -1}),
        "`$.audit.near_duplicates`",
    ),
    ({"metadata": {}}, "`$.metadata.differences`"),
    ({"neighbours": {}}, "`$.neighbours.sha256`"),
    (drop("novelty", "limit"), "`$.novelty.limit`"),
    (lambda raw: raw["novelty"].update(limit=0.0), "`$.novelty.limit`"),
    (lambda raw: raw["novelty"].update(known_share=99.5), "`$.novelty.known_share`"),
    (lambda raw: raw["novelty"].update(sha256=5), "`$.novelty.sha256`"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_field_of_a_wrong_type_or_range_is_named(folder, change, message):
    edit_record(folder, change)
    with pytest.raises(ModelInvalid) as refused:
        read_record(folder)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaN", "`$.temperature.large`"),
        ("-Infinity", "`$.temperature.large`"),
        ("1e999", "`$.temperature.large`"),
        ("1" + "0" * 5000, "`$.temperature.large`"),
        (DEEP, "nested too deeply"),
        ('"\\ud800"', "cannot be read"),
        ("0,97", "cannot be read"),
    ],
)
def test_a_value_that_is_no_json_is_named(folder, text, message):
    path = folder / RECORD_FILE
    large = read_record(folder).temperature.large
    path.write_text(path.read_text().replace(f'"large": {large}', f'"large": {text}'))
    with pytest.raises(ModelInvalid) as refused:
        read_record(folder)
    assert message in str(refused.value)


def test_a_record_without_its_version_is_refused(folder):
    edit_record(folder, drop("format_version"))
    with pytest.raises(ModelInvalid, match=r"`\$.format_version` .* missing"):
        read_record(folder)


def test_a_model_of_the_former_version_names_the_command_that_migrates_it(folder):
    edit_record(folder, {"format_version": 6})
    (folder / MANIFEST_FILE).unlink()
    with pytest.raises(ModelInvalid, match="python -m cadlib model migrate --model"):
        read_record(folder)


def test_facts_without_thresholds_of_their_own_are_refused(taught_folder):
    edit_record(taught_folder, lambda raw: raw["metadata"]["operating_points"].pop())
    with pytest.raises(ModelInvalid, match="`\\$.metadata.operating_points`"):
        read_record(taught_folder)


def test_a_model_without_an_audit_passed_no_audit(folder):
    change_record(folder, {"audit": None})
    record = read_record(folder)
    assert not record.audit_passed
    assert record.validation_claim.startswith("not audited")


def test_an_audit_without_a_leak_is_passed(folder):
    change_record(folder, lambda raw: raw.update(audit=audit_json(raw)))
    record = read_record(folder)
    assert record.audit_passed
    assert record.validation_claim == AUDIT_PASSED
    assert json.loads(json.dumps(record.to_json())) == json.loads(
        (folder / RECORD_FILE).read_text()
    )


def test_an_audit_that_found_a_leak_is_read_as_one(folder):
    change_record(folder, lambda raw: raw.update(audit=audit_json(raw, identical_files=2)))
    record = read_record(folder)
    assert not record.audit_passed
    assert record.validation_claim.startswith(
        "NOT validated: its splits are not separate (2 pairs of byte-identical files"
    )


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_refuses_a_record_that_is_no_json_object(folder, content):
    (folder / RECORD_FILE).write_bytes(content)
    with pytest.raises(ModelInvalid, match=r"model\.json"):
        read_record(folder)


def test_a_model_is_found_by_name_and_by_path(folder):
    assert find_model("isic2019") == models_dir() / "isic2019"
    assert find_model(folder) == folder


def test_an_unknown_model_is_refused_with_the_known_names():
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


def test_a_model_without_a_trial_of_metadata_or_with_a_failed_one_takes_none(untaught_folder):
    assert read_record(untaught_folder).evidence is None
    in_vain = {"differences": {}, "evidence": None, "operating_points": []}
    change_record(untaught_folder, {"metadata": in_vain})
    record = read_record(untaught_folder)
    assert record.evidence is None
    assert record.metadata is not None


def test_the_evidence_of_a_model_comes_back_with_its_own_operating_points(taught_folder):
    record = read_record(taught_folder)
    assert json.loads(json.dumps(record.to_json())) == json.loads(
        (taught_folder / RECORD_FILE).read_text()
    )
    assert record.required_evidence() is record.metadata.evidence
    assert record.operating_point("balanced", with_facts=True).threshold == 0.123
