import json
import os
import time
from pathlib import Path
from threading import Thread

import pytest
from msgspec import structs

from cadlib.__main__ import main
from cadlib.errors import ModelInvalid
from cadlib.files.replace import replace_files
from cadlib.files.typed_json import leaves
from cadlib.images.synthetic import demo_lesions
from cadlib.model import decisive_fields, manifest, record
from cadlib.model.manifest import MANIFEST_FILE, Change, find_changes, read_regular
from cadlib.model.migration import migrate
from cadlib.model.model import Model
from cadlib.model.record import (
    CARD_FILE,
    METRICS_FILE,
    RECORD_FILE,
    SPLIT_FILE,
    WEIGHTS_FILE,
    ModelRecord,
    find_model,
    read_record,
    write_folder,
)
from cadlib.model.verification import verify
from tests.model_folders import change_record, edit_record

SHIPPED = find_model("isic2019")
LISTED = sorted(name for name in manifest.FILES if (SHIPPED / name).exists())


def first_threshold(raw):
    raw["operating_points"][0]["threshold"] = 0.99


def test_verify_passes_for_the_shipped_model(capsys):
    assert main(["model", "verify"]) == 0
    printed = capsys.readouterr().out
    assert "unchanged" in printed
    assert "results for 12 synthetic lesions" in printed


@pytest.mark.parametrize("name", LISTED)
def test_every_changed_file_is_refused_at_load_and_named_by_verify(model_folder, name, capsys):
    path = model_folder / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ModelInvalid, match=name):
        Model.load(model_folder)
    assert main(["model", "verify", "--model", str(model_folder)]) == 1
    assert name in capsys.readouterr().out


@pytest.mark.parametrize("name", [*LISTED, MANIFEST_FILE])
def test_every_missing_file_is_refused_and_named(model_folder, name):
    (model_folder / name).unlink()
    with pytest.raises(ModelInvalid, match=name):
        Model.load(model_folder)


def test_a_changed_threshold_is_named_by_its_path(model_folder, capsys):
    edit_record(model_folder, first_threshold)
    with pytest.raises(ModelInvalid, match=r"operating_points\[0\].threshold changed"):
        read_record(model_folder)
    assert main(["model", "verify", "--model", str(model_folder)]) == 1
    assert "model.json: operating_points[0].threshold changed" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["predict", "lesion.png"], ["audit"], ["model", "verify"]])
def test_no_command_predicts_with_a_changed_model(
    model_folder, command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("lesion.png").write_bytes(demo_lesions()[0].png())
    edit_record(model_folder, first_threshold)
    assert main([*command, "--model", str(model_folder)]) == 1
    printed = capsys.readouterr()
    assert "operating_points[0].threshold changed" in printed.out + printed.err


def test_an_added_file_changes_no_answer_and_verify_names_it(model_folder, model):
    (model_folder / "notes.txt").write_text("mine")
    assert Model.load(model_folder).record.model_id == model.record.model_id
    assert [str(change) for change in find_changes(model_folder)] == ["notes.txt was added"]
    assert not verify(model_folder).unchanged


def test_line_ends_of_another_system_are_a_change(model_folder):
    path = model_folder / CARD_FILE
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(ModelInvalid, match="README.md changed"):
        read_record(model_folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
@pytest.mark.parametrize("name", [RECORD_FILE, MANIFEST_FILE, CARD_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop"])
def test_refuses_a_special_file_without_waiting(model_folder, name, kind):
    path = model_folder / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(name)
    with pytest.raises(ModelInvalid, match=name):
        Model.load(model_folder)


def test_a_link_to_the_same_content_is_the_same_model(model_folder, model, tmp_path):
    path = model_folder / WEIGHTS_FILE
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert Model.load(model_folder).record.model_id == model.record.model_id


def test_a_file_of_many_bytes_is_refused_before_it_is_read(model_folder):
    with (model_folder / WEIGHTS_FILE).open("r+b") as file:
        file.truncate(2**40)  # sparse: it takes no room
    with pytest.raises(ModelInvalid, match="1,099,511,627,776 bytes instead of"):
        Model.load(model_folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda raw: raw["files"].pop(CARD_FILE), "its content changed"),
        (lambda raw: raw["files"][CARD_FILE].update(bytes=1), "its content changed"),
        (lambda raw: raw.update(model="isic2019 9.9.9"), "its content changed"),
        (lambda raw: raw["files"][CARD_FILE].update(bytes=-1), "bytes"),
        (lambda raw: raw["files"][CARD_FILE].update(bytes=10**400), "bytes"),
        (lambda raw: raw.update(files=[]), "`$.files`"),
        (lambda raw: raw.update(surprise=1), "`$.surprise`"),
        (lambda raw: raw.pop("fields"), "`$.fields`"),
    ],
)
def test_a_changed_manifest_is_refused(model_folder, change, named):
    path = model_folder / MANIFEST_FILE
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(ModelInvalid) as refused:
        read_record(model_folder)
    assert MANIFEST_FILE in str(refused.value)
    assert named in str(refused.value)


def test_a_manifest_of_another_model_is_refused(model_folder):
    record_now = read_record(model_folder)
    other_record = structs.replace(record_now, version="9.9.9")
    facts = manifest.read_manifest(model_folder).files
    text = manifest.manifest_text(
        other_record.model_id, facts, json.loads(json.dumps(record_now.to_json()))
    )
    (model_folder / MANIFEST_FILE).write_text(text)
    with pytest.raises(ModelInvalid, match="to be of isic2019 1.3.0"):
        read_record(model_folder)


def test_a_manifest_may_not_list_a_file_outside_the_folder(model_folder):
    facts = dict(manifest.read_manifest(model_folder).files)
    facts["../../secret"] = facts[CARD_FILE]
    raw = json.loads((model_folder / RECORD_FILE).read_text())
    (model_folder / MANIFEST_FILE).write_text(manifest.manifest_text("isic2019", facts, raw))
    with pytest.raises(ModelInvalid, match="to list files of a model"):
        read_record(model_folder)


# The model's id.


def deciding_changes():
    """Return a change of each field that decides an answer, by its name."""
    return {
        "backbone": lambda raw: raw["members"][0].update(backbone="resnet18"),
        "input": lambda raw: raw["input"].update(size_px=160),
        "mean": lambda raw: raw["input"]["mean"].__setitem__(0, 0.4),
        "temperature": lambda raw: raw["temperature"].update(small=1.5),
        "bias": lambda raw: raw["bias"].__setitem__(3, 0.1),
        "coverage": lambda raw: raw["conformal"].update(coverage=0.95),
        "quantile": lambda raw: raw["conformal"]["quantiles"].update(MEL=0.5),
        "threshold": first_threshold,
        "point": lambda raw: raw["operating_points"][0].update(name="other"),
        "layer": lambda raw: raw["members"][0].update(saliency_layer="other"),
        "weights": lambda raw: raw["members"][0].update(weights_sha256="ab" * 32),
        "onnx": lambda raw: raw["members"][0].update(onnx_sha256="ab" * 32),
        "a network more": lambda raw: raw["members"].append(raw["members"][0]),
        "views": {"views": 8},
        "average": {"average": "probabilities"},
        "crop": lambda raw: raw["input"].update(symmetric=True),
        "index": lambda raw: raw["neighbours"].update(sha256="ab" * 32),
        "looks": lambda raw: raw["novelty"].update(sha256="ab" * 32),
        "limit": lambda raw: raw["novelty"].update(limit=1.0),
        "no index": {"neighbours": None},
    }


@pytest.mark.parametrize("change", deciding_changes().values(), ids=deciding_changes())
def test_every_field_that_decides_an_answer_changes_the_id(change):
    raw = json.loads((find_model("isic2019") / RECORD_FILE).read_text())
    before = decisive_fields.answers_sha256(raw)
    raw.update(change) if isinstance(change, dict) else change(raw)
    assert decisive_fields.answers_sha256(raw) != before


@pytest.mark.parametrize(
    "change",
    [
        {"known_limits": ["another"]},
        {"audit": None},
        {"libraries": {}},
        lambda raw: raw["operating_points"][0].update(sensitivity=0.5, n_benign=1),
        lambda raw: raw["training"].update(dataset="another"),
        lambda raw: raw["members"][0].update(fold=3),
        lambda raw: raw["members"][0]["run"].update(seed=7),
        lambda raw: raw["novelty"].update(known_share=0.5),
    ],
)
def test_descriptive_fields_do_not_change_the_model_id(change):
    raw = json.loads((find_model("isic2019") / RECORD_FILE).read_text())
    before = decisive_fields.answers_sha256(raw)
    raw.update(change) if isinstance(change, dict) else change(raw)
    assert decisive_fields.answers_sha256(raw) == before


def test_every_field_of_a_record_is_known_to_decide_or_to_describe(taught_folder):
    names = {*ModelRecord.__struct_fields__, "format_version"}
    listed = {
        entry.partition(".")[0].removesuffix("[]")
        for entry in (*decisive_fields.DECIDING, *decisive_fields.DESCRIPTIVE)
    }
    assert names == listed
    raw = json.loads((taught_folder / RECORD_FILE).read_text())
    for path, _ in leaves(raw):
        assert decisive_fields._entry(path), path


def test_the_evidence_of_patient_data_decides(taught_folder):
    before = read_record(taught_folder).model_id
    change_record(
        taught_folder, lambda raw: raw["metadata"]["evidence"]["female"].__setitem__(0, 1.0)
    )
    assert read_record(taught_folder).model_id != before


def test_the_id_is_carried_by_predictions(model_folder):
    before = Model.load(model_folder)
    change_record(model_folder, first_threshold)
    after = Model.load(model_folder)
    picture = demo_lesions()[0].png()
    assert before.predict(picture).model_id == before.record.model_id
    assert after.predict(picture).model_id == after.record.model_id != before.record.model_id


def test_a_replaced_model_is_not_accepted_by_its_former_id(model_folder, model):
    change_record(model_folder, first_threshold)
    with pytest.raises(ModelInvalid, match="was replaced by"):
        Model.load(model_folder, model_id=model.record.model_id)


# Writing.


def test_an_unnoticed_change_does_not_become_part_of_the_model(model_folder):
    record_before = read_record(model_folder)
    (model_folder / CARD_FILE).write_text("mine")
    metrics = (model_folder / METRICS_FILE).read_bytes()
    write_folder(
        model_folder, structs.replace(record_before, known_limits=("one",)), {METRICS_FILE: metrics}
    )
    with pytest.raises(ModelInvalid, match="README.md changed"):
        read_record(model_folder)


def test_a_failed_replacement_restores_all_files(tmp_path, monkeypatch):
    before = {"a": b"one", "b": b"two", "c": b"three"}
    for name, data in before.items():
        (tmp_path / name).write_bytes(data)
    move = Path.replace

    def failing(self, target):
        if Path(target).name == "c" and self.parent.name == "new":
            raise OSError(28, "No space left on device")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="No space"):
        replace_files(tmp_path, dict.fromkeys(before, b"changed"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_reader_waits_for_a_command_that_is_writing(model_folder):
    split = (model_folder / SPLIT_FILE).read_bytes()
    aside = model_folder / ".aside-test"
    aside.mkdir()
    (model_folder / SPLIT_FILE).write_bytes(split + b"\n")

    def finish():
        time.sleep(0.3)
        (model_folder / SPLIT_FILE).write_bytes(split)
        aside.rmdir()

    writer = Thread(target=finish)
    writer.start()
    try:
        assert read_record(model_folder).name == "isic2019"
    finally:
        writer.join()


def test_regular_files_are_read_up_to_a_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="5 bytes, more than 4"):
        read_regular(path, 4)


def test_a_change_is_one_line():
    assert str(Change(RECORD_FILE, "changed", "bias")) == "model.json: bias changed"
    assert str(Change(CARD_FILE, "is missing")) == "README.md is missing"


# Migration.


@pytest.fixture
def former_folder(model_folder):
    """Return the shipped model as an earlier version wrote it."""
    edit_record(model_folder, as_former)
    write_manifest(model_folder)
    return model_folder


def as_former(raw):
    """Change the values of a model.json to those of format version 6."""
    [member] = raw.pop("members")
    raw["training"].update(member.pop("run"))
    del member["fold"]
    raw.update(member, format_version=6)
    for added in ("views", "average", "balanced_rule"):
        del raw[added]
    del raw["input"]["symmetric"]


def write_manifest(folder):
    """Write a manifest of the files as they are."""
    raw = json.loads((folder / RECORD_FILE).read_text())
    names = [path.name for path in folder.iterdir() if path.name != MANIFEST_FILE]
    facts = {name: manifest.file_facts((folder / name).read_bytes()) for name in names}
    text = manifest.manifest_text("isic2019 as before", facts, raw)
    (folder / MANIFEST_FILE).write_text(text)


def test_a_folder_of_the_former_version_is_refused_with_the_command(former_folder):
    with pytest.raises(ModelInvalid, match="python -m cadlib model migrate --model"):
        Model.load(former_folder)


def test_migration_keeps_weights_metrics_and_answers(former_folder, model, capsys):
    shipped = find_model("isic2019")
    assert main(["model", "migrate", "--model", str(former_folder)]) == 0
    assert model.record.model_id in capsys.readouterr().out
    for path in shipped.iterdir():
        assert (former_folder / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", [WEIGHTS_FILE, SPLIT_FILE])
def test_migration_refuses_a_former_folder_that_was_changed(former_folder, name):
    path = former_folder / name
    path.write_bytes(path.read_bytes() + b"\n")
    before = (former_folder / MANIFEST_FILE).read_bytes()
    with pytest.raises(ModelInvalid, match=f"{name} changed"):
        migrate(former_folder)
    assert (former_folder / MANIFEST_FILE).read_bytes() == before


def test_migration_refuses_a_former_model_that_answers_otherwise(former_folder):
    edit_record(former_folder, lambda raw: raw["bias"].__setitem__(0, 1.0))
    write_manifest(former_folder)
    difference = "synthetic_MEL_1 at 160 px MEL: .* away"
    with pytest.raises(ModelInvalid, match=f"Expected the answers of .*, but {difference}"):
        migrate(former_folder)


def test_migration_refuses_a_changed_folder_unless_the_change_is_accepted(
    model_folder, model, capsys
):
    edit_record(model_folder, first_threshold)
    with pytest.raises(ModelInvalid, match="--accept-changes"):
        migrate(model_folder)
    assert main(["model", "migrate", "--model", str(model_folder), "--accept-changes"]) == 0
    assert "accepted: model.json: operating_points[0].threshold changed" in capsys.readouterr().out
    assert verify(model_folder).unchanged
    assert read_record(model_folder).model_id != model.record.model_id


def test_a_folder_of_an_unknown_version_is_not_migrated(model_folder):
    edit_record(model_folder, {"format_version": 4})
    with pytest.raises(ModelInvalid, match="format version 6 or 7, but found 4"):
        migrate(model_folder)


def test_an_unknown_model_is_bad_usage():
    assert main(["model", "verify", "--model", "nonesuch"]) == 2
    assert record.list_models()
