from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import structs

from cadlib.data.pixel_cache import cached_pixels
from cadlib.errors import DatasetInvalid, ImageRejected, ModelInvalid
from cadlib.evaluation import model_outputs as module
from cadlib.evaluation.features import split_features
from cadlib.evaluation.model_outputs import model_outputs
from cadlib.files.cache import cache_dir
from cadlib.model.neighbours import fingerprints
from cadlib.model.record import SPLIT_FILE, read_record
from cadlib.taxonomy import CODES
from tests.model_folders import with_member
from tests.progress_check import check_progress
from tests.stand_in_outputs import outputs_of

pytestmark = pytest.mark.usefixtures("empty_cache")

PARTS = ["train", "train", "validation", "test"] * 8


def see(pixels):
    """Replace a model: features are the mean colour and its square, logits are constant."""
    means = pixels.mean(axis=(1, 2)).astype(np.float32)
    features = np.concatenate([means, means**2], axis=1)
    return outputs_of(np.zeros((len(pixels), 8), np.float32), features)


@pytest.fixture
def folder(drawn_model_folder):
    return drawn_model_folder


@pytest.fixture
def dataset(drawn_dataset):
    return drawn_dataset


def features_of(folder, dataset, say=check_progress):
    return split_features(
        SimpleNamespace(folds={}, record=read_record(folder), see=see), folder, dataset, say
    )


def test_a_row_has_the_outputs_of_the_model_for_its_image(folder, dataset):
    outputs = features_of(folder, dataset)
    pixels = np.array(cached_pixels(outputs.table, read_record(folder).input)[0:32])
    np.testing.assert_array_equal(outputs.features, see(pixels).features)
    np.testing.assert_array_equal(outputs.fingerprints, fingerprints(pixels))
    assert outputs.logits.shape == (32, 8)
    assert [CODES[label] for label in outputs.labels] == outputs.table["diagnosis"].tolist()


def test_groups_and_parts_are_those_of_the_split(folder, dataset):
    outputs = features_of(folder, dataset)
    assert outputs.table["split"].tolist() == PARTS
    assert outputs.table["lesion_group"].tolist() == [str(number) for number in range(100, 132)]
    train = outputs.of("train")
    assert (
        train.table["image"].tolist() == outputs.table["image"][np.array(PARTS) == "train"].tolist()
    )
    np.testing.assert_array_equal(train.features, outputs.features[np.array(PARTS) == "train"])


def test_counts_the_finished_images(folder, dataset):
    steps = []
    features_of(folder, dataset, lambda *step: steps.append(step))
    assert steps[-1] == ("running the model", 32, 32)


def test_counts_missing_images(folder, dataset):
    assert features_of(folder, replace(dataset, table=dataset.table.iloc[3:])).missing == 3


def test_refuses_data_without_a_part_of_the_split(folder, dataset):
    without = dataset.table[np.array(PARTS) != "validation"]
    with pytest.raises(DatasetInvalid, match="images of the validation split"):
        features_of(folder, replace(dataset, table=without))


def test_refuses_images_without_a_diagnosis(folder, dataset):
    without = dataset.table.assign(
        diagnosis=dataset.table["diagnosis"].where(dataset.table.index != 5)
    )
    with pytest.raises(DatasetInvalid, match="ISIC_9000005 has none"):
        features_of(folder, replace(dataset, table=without))


def test_refuses_a_split_that_is_not_the_models(folder, dataset):
    (folder / SPLIT_FILE).write_text(
        (folder / SPLIT_FILE).read_text().replace("validation", "test", 1)
    )
    with pytest.raises(ModelInvalid, match="split.csv changed"):
        features_of(folder, dataset)


def counting(folder):
    """Return a stand-in for a model, and the list of its batch sizes, which grows with each call."""
    batch_sizes = []

    def see_counted(pixels):
        batch_sizes.append(len(pixels))
        return see(pixels)

    return SimpleNamespace(folds={}, record=read_record(folder), see=see_counted), batch_sizes


def test_features_of_any_table_are_made_once(folder, dataset):
    unlabelled = dataset.table.drop(columns=["diagnosis", "lesion_group"]).iloc[5:]
    model, batch_sizes = counting(folder)
    first = model_outputs(model, unlabelled, check_progress)
    np.testing.assert_array_equal(
        first.features, see(cached_pixels(unlabelled, model.record.input)[0:27]).features
    )
    assert sum(batch_sizes) == 27
    read_again = model_outputs(model, unlabelled, check_progress)
    for name in ("features", "logits", "looks", "fingerprints"):
        np.testing.assert_array_equal(getattr(read_again, name), getattr(first, name))
    assert sum(batch_sizes) == 27


def test_the_model_runs_once_for_an_image_in_several_tables(folder, dataset):
    model, batch_sizes = counting(folder)
    part = model_outputs(model, dataset.table.iloc[10:20], check_progress).features
    all_rows = model_outputs(model, dataset.table, check_progress).features
    np.testing.assert_array_equal(all_rows[10:20], part)
    assert sum(batch_sizes) == 32
    turned = model_outputs(model, dataset.table.iloc[::-2], check_progress).features
    np.testing.assert_array_equal(turned, all_rows[::-2])
    assert sum(batch_sizes) == 32


def test_pixels_that_were_cached_are_not_decoded_again(folder, dataset, monkeypatch):
    model, _ = counting(folder)
    expected = see(cached_pixels(dataset.table, model.record.input)[:]).features
    monkeypatch.setattr(module, "read_image", None)  # A call fails.
    np.testing.assert_array_equal(
        model_outputs(model, dataset.table, check_progress).features, expected
    )


def test_resumes_after_a_stop_with_the_remaining_images(folder, dataset, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_SIZE", 10)
    model, batch_sizes = counting(folder)

    def stop(_step, done, total):
        if done == 15:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        model_outputs(model, dataset.table, stop, batch_size=5)
    assert sum(batch_sizes) == 15
    steps = []
    features = model_outputs(
        model, dataset.table, lambda *step: steps.append(step), batch_size=5
    ).features
    assert sum(batch_sizes) == 32
    assert batch_sizes[3:] == [5, 5, 5, 2]
    assert steps[0] == ("running the model", 15, 32)
    assert steps[-1] == ("running the model", 32, 32)
    np.testing.assert_allclose(
        features, see(cached_pixels(dataset.table, model.record.input)[:]).features, rtol=1e-6
    )


def test_a_killed_process_loses_no_more_than_a_chunk(folder, dataset, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_SIZE", 10)
    model, batch_sizes = counting(folder)
    stored_counts = []

    def count_stored(_step, done, total):
        stored_counts.append(sum(len(np.load(path)["keys"]) for path in cache_dir().rglob("*.npz")))

    model_outputs(model, dataset.table, count_stored, batch_size=5)
    assert stored_counts == [0, 10, 10, 20, 20, 30, 30]
    assert sum(batch_sizes) == 32


def test_two_runs_on_the_same_images_at_once_give_the_same_outputs(folder, dataset, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_SIZE", 5)
    model, batch_sizes = counting(folder)
    inner = []

    def start_another(_step, done, total):
        if done == 10:
            inner.append(
                model_outputs(model, dataset.table.iloc[::-1], check_progress, batch_size=5)
            )

    outer = model_outputs(model, dataset.table, start_another, batch_size=5)
    expected = see(cached_pixels(dataset.table, model.record.input)[:]).features
    np.testing.assert_allclose(outer.features, expected, rtol=1e-6)
    np.testing.assert_allclose(inner[0].features, expected[::-1], rtol=1e-6)
    before = sum(batch_sizes)
    np.testing.assert_allclose(
        model_outputs(model, dataset.table, check_progress).features, expected, rtol=1e-6
    )
    assert sum(batch_sizes) == before
    assert not [*cache_dir().rglob("*.part")]


def test_a_file_that_cannot_be_read_is_named_or_refused_and_shifts_no_other(folder, dataset):
    for row in (0, 7, 31):
        Path(dataset.table["path"][row]).write_bytes(b"%PDF-1.7")
    model, _ = counting(folder)
    with pytest.raises(ImageRejected, match="PDF"):
        model_outputs(model, dataset.table, check_progress)
    for _ in range(2):  # made, and kept
        outputs = model_outputs(model, dataset.table, check_progress, skip_unreadable=True)
        features = outputs.features
        assert [*outputs.rejected] == dataset.table["image"][[0, 7, 31]].tolist()
        assert all("PDF" in reason for reason in outputs.rejected.values())
        assert outputs.rows.tolist() == [row for row in range(32) if row not in (0, 7, 31)]
        readable = dataset.table.drop([0, 7, 31])
        np.testing.assert_allclose(
            features, see(cached_pixels(readable, model.record.input)[:]).features, rtol=1e-6
        )


def test_reports_that_no_file_can_be_read(folder, dataset):
    for path in dataset.table["path"]:
        Path(path).write_bytes(b"")
    outputs = model_outputs(
        counting(folder)[0], dataset.table, check_progress, skip_unreadable=True
    )
    assert outputs.logits.shape == (0, 8)
    with pytest.raises(DatasetInvalid, match="all 32 cannot"):
        outputs.check_any()


def test_a_file_that_is_gone_is_listed_with_the_reason(folder, dataset):
    model, _ = counting(folder)
    Path(dataset.table["path"][4]).unlink()
    with pytest.raises(ImageRejected, match="No such file"):
        model_outputs(model, dataset.table, check_progress)
    outputs = model_outputs(model, dataset.table, check_progress, skip_unreadable=True)
    assert [*outputs.rejected] == [dataset.table["image"][4]]
    assert len(outputs) == 31


def test_an_image_whose_id_is_also_that_of_an_unreadable_one_keeps_its_row(folder, dataset):
    table = dataset.table.copy()
    table.loc[1, "image"] = table["image"][0]
    Path(table["path"][0]).write_bytes(b"")
    model, _ = counting(folder)
    outputs = model_outputs(model, table, check_progress, skip_unreadable=True)
    assert outputs.readable(table)["path"].tolist() == table["path"].tolist()[1:]


def test_outputs_are_read_only(folder, dataset):
    model, _ = counting(folder)
    outputs = model_outputs(model, dataset.table, check_progress)
    for name in ("features", "logits", "looks", "fingerprints"):
        assert not getattr(outputs, name).flags.writeable


@pytest.mark.parametrize(
    "change", ["weights_sha256", "onnx_sha256", "views", "average", "input", "images"]
)
def test_recomputes_features_for(folder, dataset, change):
    model = SimpleNamespace(folds={}, record=read_record(folder), see=see)
    before = model_outputs(model, dataset.table, check_progress).features
    if change == "images":
        assert (
            len(model_outputs(model, dataset.table.iloc[1:], check_progress).features)
            == len(before) - 1
        )
        return
    if change == "input":
        spec = structs.replace(model.record.input, std=(1.0, 1.0, 1.0))
        record = structs.replace(model.record, input=spec)
    elif change in ("views", "average"):
        value = {"views": 8, "average": "probabilities"}[change]
        record = structs.replace(model.record, **{change: value})
    else:
        record = with_member(model.record, **{change: "0" * 64})
    changed_model = SimpleNamespace(
        folds={},
        record=record,
        see=lambda pixels: see(255 - pixels),
    )
    assert not np.array_equal(
        model_outputs(changed_model, dataset.table, check_progress).features, before
    )


def test_a_damaged_file_of_outputs_is_computed_again(folder, dataset):
    model, batch_sizes = counting(folder)
    before = model_outputs(model, dataset.table, check_progress)
    [path] = cache_dir().rglob("*.npz")
    path.write_bytes(path.read_bytes()[:1000])
    recomputed = model_outputs(model, dataset.table, check_progress)
    np.testing.assert_array_equal(recomputed.features, before.features)
    assert sum(batch_sizes) == 64
