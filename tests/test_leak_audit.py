import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from msgspec import structs
from PIL import Image

from cadlib.__main__ import main
from cadlib.data import splits
from cadlib.data.contradictions import CONTRADICTIONS
from cadlib.data.dataset import open_dataset
from cadlib.data.duplicates import Duplicates
from cadlib.errors import DatasetInvalid, ModelInvalid
from cadlib.evaluation.leak_audit import audit_split, write_into
from cadlib.model import card, metrics_file
from cadlib.model.record import CARD_FILE, SPLIT_FILE, read_record
from cadlib.model.split import split_of_model
from cadlib.report import audit_sheet
from cadlib.report.audit_sheet import WARNING
from tests.model_folders import change_file, change_record
from tests.progress_check import check_progress
from tests.stand_in_outputs import outputs_of

pytestmark = pytest.mark.usefixtures("empty_cache", "few_draws")


@pytest.fixture
def data(drawn_images, tmp_path) -> Path:
    """Return a copy of the 32 drawn lesions, four a class; the first two of a class are one lesion."""
    return Path(shutil.copytree(drawn_images, tmp_path / "drawn"))


@pytest.fixture
def trained_on(model_folder):
    """Give the model in the folder another split: the part of each image of a folder, or of the rows of a group."""

    def change(data: Path, parts: list[str], groups: list[int]) -> Path:
        images = [path.stem for path in images_of(data)]
        rows = pd.DataFrame({"image": images, "lesion_group": groups, "split": parts})
        (model_folder / SPLIT_FILE).write_text(rows.to_csv(index=False))
        change_record(model_folder, {"audit": None}, golden=False)
        return model_folder

    return change


def images_of(data: Path) -> list[Path]:
    return sorted((data / "ISIC_2019_Training_Input").iterdir())


CLEAN = ["train", "train", "validation", "test"] * 8
GROUPS = [number - (number % 4 == 1) for number in range(32)]


def reader(folder: Path) -> SimpleNamespace:
    """Return a stand-in for a Model: its features are the mean colours of the four quarters of an image."""

    def see(pixels):
        half = pixels.shape[1] // 2
        quarters = (
            pixels[:, :half, :half],
            pixels[:, half:, :half],
            pixels[:, :half, half:],
            pixels[:, half:, half:],
        )
        means = np.concatenate([quarter.mean(axis=(1, 2)) for quarter in quarters], axis=1)
        logits = np.zeros((len(pixels), 8), np.float32)
        return outputs_of(logits, means.astype(np.float32))

    return SimpleNamespace(folds={}, record=read_record(folder), see=see)


def audited(folder: Path, data: Path):
    return audit_split(reader(folder), folder, open_dataset(data, verify=False), check_progress)


def test_a_split_by_lesion_does_not_leak(data, trained_on):
    audit = audited(trained_on(data, CLEAN, GROUPS), data)
    assert not audit.result.leaks
    assert audit.result.images == {"train": 16, "validation": 8, "test": 8}
    assert audit.result.named == ()
    assert "leak audit passed: no image or lesion was found in more than one split" in str(audit)


def test_a_lesion_in_two_splits_is_counted_and_named(data, trained_on):
    parts = ["train", "test", *CLEAN[2:]]
    result = audited(trained_on(data, parts, list(range(32))), data).result
    assert (result.shared_lesions, result.shared_groups) == (1, 0)
    assert result.named[0] == "one lesion id: ISIC_9000000 (train), ISIC_9000001 (test)"


def test_a_group_of_the_split_in_two_splits_is_counted(data, trained_on):
    groups = [*GROUPS[:2], 0, *GROUPS[3:]]
    result = audited(trained_on(data, CLEAN, groups), data).result
    assert (result.shared_lesions, result.shared_groups) == (0, 1)


def test_identical_files_across_splits_leak_in_every_way(data, trained_on):
    paths = images_of(data)
    paths[2].write_bytes(paths[7].read_bytes())
    result = audited(trained_on(data, CLEAN, GROUPS), data).result
    assert (result.identical_files, result.near_duplicates, result.same_pictures) == (1, 1, 1)
    assert "identical files: ISIC_9000002 (validation), ISIC_9000007 (test)" in result.named


def test_identical_files_of_one_split_do_not_leak(data, trained_on):
    paths = images_of(data)
    paths[2].write_bytes(paths[6].read_bytes())
    assert not audited(trained_on(data, CLEAN, GROUPS), data).result.leaks


def test_a_mirrored_picture_that_no_hash_finds_is_found_by_its_pixels(data, trained_on):
    paths = images_of(data)
    Image.open(paths[4]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(90).save(
        paths[10], quality=80
    )
    audit = audited(trained_on(data, CLEAN, GROUPS), data)
    assert (
        audit.result.identical_files,
        audit.result.near_duplicates,
        audit.result.same_pictures,
    ) == (0, 0, 2)
    pair, other_pair = audit.leaking_pairs.itertuples()
    assert (pair.left, pair.right) == (4, 10)
    assert (other_pair.left, other_pair.right) == (5, 10)  # the second picture of the lesion
    assert min(pair.bits, other_pair.bits) > splits.NEAR_DUPLICATE_BITS


def test_hash_distances_count_every_pair_across_splits(data, trained_on):
    audit = audited(trained_on(data, CLEAN, GROUPS), data)
    assert audit.hash_distances.sum() == 16 * 8 + 16 * 8 + 8 * 8


def test_pairs_hold_the_nearest_of_each_image_as_the_plain_way_gives_it(
    data, trained_on, monkeypatch
):
    from cadlib.evaluation import leak_audit

    monkeypatch.setattr(leak_audit, "BLOCK_CELLS", 50)  # three rows at a time
    folder = trained_on(data, CLEAN, GROUPS)
    audit = audited(folder, data)
    from cadlib.data.pixel_cache import cached_pixels

    features = (
        reader(folder).see(np.array(cached_pixels(audit.table, read_record(folder).input))).features
    )
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    parts = audit.table["split"].to_numpy()
    for right in np.flatnonzero(parts != "train"):
        values = np.where(parts == "train", features @ features[right], -1)
        rows = audit.pairs[
            (audit.pairs["right"] == right) & (parts[audit.pairs["left"]] == "train")
        ]
        assert rows["cosine"].max() == pytest.approx(values.max(), abs=1e-5)
        assert values.argmax() in rows["left"].tolist()


def test_counts_missing_images_of_the_split(data, trained_on):
    folder = trained_on(data, CLEAN, GROUPS)
    for path in images_of(data)[:3]:
        path.unlink()
    audit = audited(folder, data)
    assert audit.missing == 3
    assert "3 not at hand" in str(audit)


def test_refuses_data_of_which_the_split_has_nothing(data, model_folder):
    with pytest.raises(DatasetInvalid, match="give the data set it was trained on"):
        audited(model_folder, data)


def test_refuses_a_split_that_is_not_the_models(data, trained_on):
    folder = trained_on(data, CLEAN, GROUPS)
    (folder / SPLIT_FILE).write_text(
        (folder / SPLIT_FILE).read_text().replace("validation", "test", 1)
    )
    with pytest.raises(ModelInvalid, match="split.csv changed"):
        audited(folder, data)


def test_writes_the_result_into_record_and_card(data, trained_on):
    folder = trained_on(data, CLEAN, GROUPS)
    result = audited(folder, data).result
    write_into(folder, read_record(folder), result)
    record = read_record(folder)
    assert record.audit == result
    assert record.audit_passed
    text = (folder / CARD_FILE).read_text(encoding="utf-8")
    assert text == card.render(record, metrics_file.read(folder))
    assert "Leak audit passed: no image or lesion was found in more than one split" in text
    assert claims(text) == []


def test_a_full_disk_leaves_record_and_card_as_they_were(data, trained_on, monkeypatch):
    folder = trained_on(data, CLEAN, GROUPS)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = audited(folder, data).result

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_into(folder, read_record(folder), result)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.fixture
def leaking(data, trained_on) -> Path:
    """Return a model whose split leaks, audited by command line."""
    folder = trained_on(data, ["train", "test", *CLEAN[2:]], list(range(32)))
    assert main(["audit", "--data", str(data), "--model", str(folder), "--into-model"]) == 1
    return folder


def claims(text: str) -> list[str]:
    """Return every claim that a model is validated."""
    return re.findall(r"(?<!NOT )\bvalidated\b.*", text)


def test_the_card_of_a_leaking_model_calls_it_validated_nowhere(leaking):
    text = (leaking / CARD_FILE).read_text(encoding="utf-8")
    assert "NOT validated: its splits are not separate (1 lesion ids in several splits" in text
    assert claims(text) == []


def test_evaluating_a_leaking_model_calls_it_validated_nowhere(leaking, data, tmp_path, capsys):
    capsys.readouterr()
    part = ["--data", str(data), "--split", "validation", "--output", str(tmp_path / "out")]
    assert main(["evaluate", "--model", str(leaking), *part]) == 0
    printed = "".join(capsys.readouterr())
    assert "NOT validated: its splits are not separate" in printed
    assert claims(printed) == []


def test_a_group_in_two_splits_can_be_audited_and_not_measured(data, trained_on):
    folder = trained_on(data, CLEAN, [0] * 32)
    with pytest.raises(DatasetInvalid, match="a lesion group in one split"):
        split_of_model(folder, read_record(folder))
    assert audited(folder, data).result.shared_groups == 1


def test_the_command_without_a_leak_exits_with_0(data, trained_on, capsys):
    folder = trained_on(data, CLEAN, GROUPS)
    assert main(["audit", "--data", str(data), "--model", str(folder), "--into-model"]) == 0
    assert (
        "leak audit passed: no image or lesion was found in more than one split"
        in capsys.readouterr().out
    )
    assert read_record(folder).audit_passed


def test_the_command_refuses_a_part_of_the_split(data, trained_on, capsys):
    folder = trained_on(data, CLEAN, GROUPS)
    images_of(data)[0].unlink()
    assert main(["audit", "--data", str(data), "--model", str(folder), "--into-model"]) == 1
    assert "Expected all 32 images of the split, but found 31" in capsys.readouterr().err
    assert read_record(folder).audit is None


def test_the_command_audits_a_data_set_alone(data, capsys):
    paths = images_of(data)
    paths[2].write_bytes(paths[6].read_bytes())
    assert main(["audit", "--data", str(data)]) == 0
    printed = capsys.readouterr().out
    assert "ISIC_9000002 MEL, ISIC_9000006 NV" in printed
    assert "across splits" not in printed


def test_the_command_lists_drifted_answers_with_their_change(model_folder, capsys):
    path = model_folder / "golden.json"
    golden = json.loads(path.read_text())
    answer = golden["answers"][-1]
    answer["probabilities"]["BCC"] += 0.25
    change_file(model_folder, "golden.json", json.dumps(golden))
    assert main(["audit", "--model", str(model_folder)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert f"{answer['lesion']} BCC:" in line
    assert "0.2500 away" in line


def test_the_command_refuses_altered_weights(model_folder, capsys):
    with (model_folder / "weights.safetensors").open("ab") as file:
        file.write(b"\0")
    assert main(["audit", "--model", str(model_folder)]) == 1
    assert "weights.safetensors changed: it has" in capsys.readouterr().out


def test_the_shipped_model_answers_as_on_the_day_it_was_made(capsys):
    assert main(["audit", "--model", "isic2019"]) == 0
    assert "match the stored ones" in capsys.readouterr().out


def test_a_model_that_drifted_keeps_its_record(data, trained_on):
    folder = trained_on(data, CLEAN, GROUPS)
    text = re.sub(r'("NV": )[\d.e-]+', r"\g<1>0.5", (folder / "golden.json").read_text())
    change_file(folder, "golden.json", text)
    assert main(["audit", "--data", str(data), "--model", str(folder), "--into-model"]) == 1
    assert read_record(folder).audit is None


def test_the_sheet_is_one_file_that_shows_the_pairs_and_warns(data, trained_on, tmp_path):
    paths = images_of(data)
    paths[2].write_bytes(paths[7].read_bytes())
    folder = trained_on(data, CLEAN, GROUPS)
    file = tmp_path / "sheets" / "audit.html"
    assert main(["audit", "--data", str(data), "--model", str(folder), "--sheet", str(file)]) == 1
    text = file.read_text(encoding="utf-8")
    assert WARNING in text
    assert "ISIC_9000002, validation, MEL" in text
    assert "ISIC_9000007, test, NV" in text
    assert "likeness 1.000, 0 hash bits differ" in text
    sources = re.findall(r'src="([^"]{0,40})', text)
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "http" not in text
    assert str(data) not in text


def test_the_sheet_of_a_data_set_alone_shows_its_contradictions(data, tmp_path):
    paths = images_of(data)
    paths[2].write_bytes(paths[6].read_bytes())
    assert main(["audit", "--data", str(data), "--sheet", str(tmp_path / "audit.html")]) == 0
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") == 4  # the pair is identical, and near by its hash
    assert "ISIC_9000006, NV" in text


def test_the_sheet_shows_text_of_a_data_set_as_text():
    groups = dict.fromkeys(CONTRADICTIONS, ())
    empty = pd.DataFrame({"image": [], "diagnosis": [], "malignant": []})
    text = audit_sheet.render(Duplicates("<b>isic</b>", empty, (), groups))
    assert "Audit of &lt;b&gt;isic&lt;/b&gt;" in text
    assert "<b>" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--data", "nowhere"],
        ["--model", "nonesuch"],
        ["--model", "isic2019", "--sheet", "{empty}/x.html"],
        ["--model", "isic2019", "--into-model"],
        ["--data", "{empty}", "--into-model"],
    ],
)
def test_bad_usage_ends_with_2_before_any_work(arguments, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["audit", *(part.format(empty=empty) for part in arguments)]) == 2
    assert capsys.readouterr().err
    assert not list(empty.iterdir())


def test_finds_the_only_copy_among_real_images(isic2019_dataset, model, tmp_path, model_folder):
    dataset = isic2019_dataset
    table = dataset.table[dataset.table.index % 300 == 0].reset_index(drop=True)
    rows = pd.DataFrame({"image": table["image"], "lesion_group": range(len(table))})
    rows["split"] = np.resize(CLEAN, len(rows))
    (model_folder / SPLIT_FILE).write_text(rows.to_csv(index=False))
    sha256 = hashlib.sha256((model_folder / SPLIT_FILE).read_bytes()).hexdigest()
    record = structs.replace(
        model.record,
        audit=None,
        training=structs.replace(model.record.training, split_sha256=sha256),
    )
    audited_model = SimpleNamespace(folds={}, record=record, see=model.see)
    copied = tmp_path / "copied.jpg"
    shutil.copy(table["path"].iloc[0], copied)
    table.loc[3, "path"] = str(copied)
    result = audit_split(
        audited_model, model_folder, replace(dataset, table=table), check_progress
    ).result
    assert (result.identical_files, result.near_duplicates, result.same_pictures) == (1, 1, 1)
