import json
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import msgspec
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from cadlib.data.dataset import Dataset, DatasetReport
from cadlib.errors import DatasetInvalid
from cadlib.evaluation.robustness import compare, measure
from cadlib.images.corruptions import CORRUPTIONS, STRENGTHS
from cadlib.images.preprocess import InputSpec
from cadlib.images.turns import CHANGING_TURNS
from cadlib.metrics.conditions_schema import Robustness, SplitName
from cadlib.metrics.tables import robustness_table
from cadlib.model.calibration import NO_BIAS, probabilities
from cadlib.model.metrics_file import metrics_json
from cadlib.taxonomy import CODES, MALIGNANT

VARIANTS = 1 + 5 * len(CORRUPTIONS) + len(CHANGING_TURNS)


class CornerReader:
    """Stands in for a Model: a bright upper left corner is a melanoma, a dark one a nevus."""

    record = SimpleNamespace(
        name="corner-reader", version="1.0.0", weights_sha256="ab" * 32,
        input=InputSpec(64, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), symmetric=True),
    )  # fmt: skip

    folds = MappingProxyType({})

    def __init__(self) -> None:
        self.batches: list[int] = []

    def held_out(self, _image: str) -> "CornerReader":
        return self

    def see(self, pixels: np.ndarray) -> SimpleNamespace:
        self.batches.append(len(pixels))
        bright = pixels[:, 12:20, 12:20].mean(axis=(1, 2, 3)) > 110
        logits = np.where(bright[:, None], 3 * np.eye(8)[0], 3 * np.eye(8)[1]).astype(np.float32)
        return SimpleNamespace(logits=logits)

    def calibrated(self, logits: np.ndarray, short_side_px: list[int]) -> np.ndarray:
        assert short_side_px == [64] * len(logits)
        return probabilities(logits, 1.0, NO_BIAS)


def dataset_of(folder: Path, codes: list[str | None]) -> Dataset:
    """Draw melanomas with a white upper left quarter and anything else dark, 64 px a side."""
    paths = []
    for number, code in enumerate(codes):
        pixels = np.full((64, 64, 3), 40, np.uint8)
        pixels[:32, :32] = 255 if code == "MEL" else 40
        paths.append(str(folder / f"{number}.png"))
        Image.fromarray(pixels).save(paths[-1])
    missing = pd.array([None] * len(codes), dtype="str")
    table = pd.DataFrame(
        {
            "image": [f"ISIC_{number:07}" for number in range(len(codes))], "path": paths,
            "diagnosis": pd.array(codes, dtype="str"), "lesion_id": missing, "lesion_group": missing,
        }
    )  # fmt: skip
    return Dataset("drawn", table, DatasetReport(len(table), len(table), len(table), ()))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    dataset = dataset_of(tmp_path_factory.mktemp("corners"), ["MEL", "MEL", "NV", "NV", None])
    model = CornerReader()
    steps = []
    results = measure(
        model,
        dataset,
        "validation",
        progress=lambda _, *step: steps.append(step),
        batch_size=50,
        draws=200,
    )
    return results, model, steps


def random_predictions(n: int, seed: int = 0, alike: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (n,) and random probabilities (83, n, 8) that are right more often than not."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 8, n)
    logits = rng.normal(0, 1, (VARIANTS, n, 8)) + alike * np.eye(8)[labels]
    odds = np.exp(logits)
    return labels, odds / odds.sum(axis=-1, keepdims=True)


def test_degradation_that_hides_the_sign_has_a_known_loss(measured):
    # White after -3 stops is 99 of 255, under the threshold of the reader; after -2.2 stops it is 128.
    part = measured[0].corruptions["underexposure"]
    assert measured[0].clean.balanced_accuracy == 1
    assert [part.balanced_accuracy[str(strength)] for strength in STRENGTHS] == [1, 1, 1, 1, 0.5]
    assert (
        part.balanced_accuracy_fall["5"]
        == part.malignant_auc_fall["5"]
        == part.accuracy_fall["5"]
        == 0.5
    )
    assert part.balanced_accuracy_fall["mean"] == pytest.approx(0.1)


def test_damage_that_leaves_the_sign_costs_nothing(measured):
    part = measured[0].corruptions["JPEG"]
    assert set(part.balanced_accuracy_fall.values()) == {0}


def test_a_turn_flips_the_diagnosis_where_it_moves_the_sign(measured):
    # Of the seven turns only mirroring at the main diagonal leaves the corner in its place.
    flips = measured[0].flips
    assert sorted(flips.rate[turn] for turn in CHANGING_TURNS) == [0, *[0.5] * 6]
    assert flips.rate["mean"] == pytest.approx(0.5 * 6 / 7)
    assert flips.rate["any"] == 0.5


def test_the_malignant_probability_shifts_by_the_expected_amount(measured):
    flips = measured[0].flips
    odds = np.exp([3.0, 0.0])
    malignant = sum(MALIGNANT)
    total = odds[0] + 7 * odds[1]
    moved = (odds[0] + (malignant - 1) * odds[1] - malignant * odds[1]) / total
    assert flips.malignant_shift == pytest.approx(moved * 0.5 * 6 / 7)
    assert flips.malignant_shift_95th_percentile == pytest.approx(moved)


def test_names_the_model_the_data_and_how_many(measured):
    metrics = measured[0]
    assert metrics.model.weights_sha256 == "ab" * 32
    assert metrics.data == SplitName(name="drawn", split="validation")
    assert (metrics.n, metrics.n_lesions, metrics.n_classes) == (4, 4, 2)
    assert metrics.sample.of == 4


def test_every_labelled_image_is_shown_in_all_variants_in_batches(measured):
    _, model, steps = measured
    assert model.batches == [50] * 6 + [32]
    assert steps[-1] == (4 * VARIANTS, 4 * VARIANTS)


def test_the_degradation_of_an_image_is_independent_of_other_images(tmp_path):
    class Listener(CornerReader):
        def see(self, pixels):
            self.seen = [*getattr(self, "seen", []), *(picture.tobytes() for picture in pixels)]
            return super().see(pixels)

    dataset = dataset_of(tmp_path, ["MEL", "NV"])
    both = Listener()
    alone_first = Listener()
    alone_other_seed = Listener()
    measure(both, dataset, "test", draws=1)
    second_only = Dataset("drawn", dataset.table[1:], dataset.report)
    measure(alone_first, second_only, "test", draws=1)
    measure(alone_other_seed, second_only, "test", seed=1, draws=1)
    assert both.seen[VARIANTS:] == alone_first.seen != alone_other_seed.seen


def test_an_unreadable_image_is_named_and_not_counted(tmp_path):
    dataset = dataset_of(tmp_path, ["MEL", "NV", "NV"])
    Path(dataset.table["path"][1]).write_bytes(b"%PDF-1.7")
    metrics = measure(CornerReader(), dataset, "test", draws=1)
    assert metrics.n_by_class == dict.fromkeys(CODES, 0) | {"MEL": 1, "NV": 1}
    assert metrics.clean.accuracy == 1
    assert "PDF" in metrics.rejected["ISIC_0000001"]


def test_rejects_a_dataset_without_a_label(tmp_path):
    with pytest.raises(
        DatasetInvalid, match="labelled images that can be read in drawn but got none"
    ):
        measure(CornerReader(), dataset_of(tmp_path, [None]), "test")


def test_metrics_are_those_of_scikit_learn():
    labels, probabilities = random_predictions(200)
    metrics = compare(labels, probabilities, np.arange(200), draws=1)
    truth = np.array(MALIGNANT)[labels]

    def expected(place: int) -> tuple[float, float, float]:
        guesses = probabilities[place].argmax(axis=1)
        malignant = probabilities[place][:, MALIGNANT].sum(axis=1)
        scores = (balanced_accuracy_score(labels, guesses), roc_auc_score(truth, malignant))
        return *scores, accuracy_score(labels, guesses)

    names = ("balanced_accuracy", "malignant_auc", "accuracy")
    assert tuple(getattr(metrics.clean, name) for name in names) == pytest.approx(expected(0))
    for place, part in enumerate(metrics.corruptions.values()):
        for strength in STRENGTHS:
            measured = tuple(getattr(part, name)[str(strength)] for name in names)
            assert measured == pytest.approx(expected(5 * place + strength))


def test_a_relative_error_is_the_damaged_over_the_clean_error():
    metrics = compare(*random_predictions(300), np.arange(300), draws=1)
    clean = 1 - metrics.clean.balanced_accuracy
    relative = [part.relative_error for part in metrics.corruptions.values()]
    hair = metrics.corruptions["hair"].balanced_accuracy
    assert relative[11] == pytest.approx(
        sum(1 - hair[str(strength)] for strength in STRENGTHS) / (5 * clean)
    )
    assert metrics.mean.relative_error == pytest.approx(np.mean(relative))


def test_damage_without_an_effect_is_a_fall_of_0_and_a_relative_error_of_1():
    labels, probabilities = random_predictions(100)
    metrics = compare(
        labels, np.broadcast_to(probabilities[0], probabilities.shape), np.arange(100), draws=100
    )
    assert metrics.mean.balanced_accuracy_fall == 0
    assert metrics.mean.relative_error == 1
    assert set(metrics.flips.rate.values()) == {0}


def test_a_model_without_a_clean_error_has_no_relative_one(measured):
    assert measured[0].mean.relative_error is None


def test_the_interval_of_a_fall_is_paired():
    labels, probabilities = random_predictions(400, alike=1.0)
    nearly = np.broadcast_to(probabilities[0], probabilities.shape).copy()
    nearly[1:, :8] = np.eye(8)[(labels[:8] + 1) % 8]
    metrics = compare(labels, nearly, np.arange(400), draws=300)
    fall = metrics.corruptions["noise"].intervals.accuracy_fall["mean"]
    assert np.diff(fall) < 0.5 * np.diff(metrics.clean.intervals.accuracy)
    assert fall[0] <= metrics.corruptions["noise"].accuracy_fall["mean"] <= fall[1]


def test_images_of_one_lesion_are_drawn_together():
    labels, probabilities = random_predictions(100)
    labels = np.repeat(labels, 4)
    probabilities = np.repeat(probabilities, 4, axis=1)
    alone = compare(labels, probabilities, np.arange(400), draws=300).flips.intervals.rate["mean"]
    together = compare(
        labels, probabilities, np.repeat(np.arange(100), 4), draws=300
    ).flips.intervals.rate["mean"]
    assert np.diff(together) > 1.5 * np.diff(alone)


def test_undefined_metrics_are_none_in_strict_json(measured):
    labels, probabilities = random_predictions(5)
    metrics = compare(np.ones_like(labels), probabilities, np.arange(5), draws=5)
    assert metrics.clean.malignant_auc is None
    json.loads(metrics_json(metrics), parse_constant=pytest.fail)
    parsed = json.loads(metrics_json(measured[0]), parse_constant=pytest.fail)
    assert msgspec.convert(parsed, Robustness) == measured[0]


def test_the_table_has_a_row_a_corruption_and_a_row_a_turn(measured):
    lines = robustness_table(measured[0]).splitlines()
    assert (
        lines[0]
        == "corner-reader 1.0.0 on drawn validation: 4 images of 4 lesions, of 4 images in all"
    )
    starts = [line.split("  ")[0] for line in lines]
    assert all(
        name in starts
        for name in (*(corruption.name for corruption in CORRUPTIONS), *CHANGING_TURNS, "all")
    )
    assert {"mean, a share of the views", "in any view, a share of the images"} <= set(starts)
    [dark] = [line for line in lines if line.startswith("underexposure")]
    assert dark.split()[1:4] == ["0.000", "0.500", "0.100"]
    assert (
        len({len(line) for line in robustness_table(measured[0]).split("\n\n")[2].splitlines()})
        == 1
    )
