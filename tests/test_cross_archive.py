import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from cadlib.__main__ import main
from cadlib.errors import TrainingFailed
from cadlib.evaluation.evaluate import build_metrics
from cadlib.metrics.classification import malignant_probability, malignant_truth
from cadlib.metrics.conditions_schema import TwoRuns
from cadlib.model import calibration
from cadlib.model.record import CARD_FILE, METRICS_FILE, read_json
from cadlib.taxonomy import CODES
from cadlib.training import cross_archive
from cadlib.training.config import ACROSS_RECIPE, TrainConfig
from cadlib.training.cross_archive import METRICS, across_archives, compare
from cadlib.training.loop import train
from cadlib.training.run import CHECKPOINT_FILE, HISTORY_FILE
from tests.tiny_training import TINY, flags

SETTINGS = {**TINY, "last_px": 32, "validation": 0.3, "test": 0.1}
CONFIG = TrainConfig(**SETTINGS)
ARCHIVES = ["BCN20000", "HAM10000", "MSK"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def runs(monkeypatch):
    """Note every run: the archive that is left out, whether it resumes, and its result."""
    calls = []

    def train_and_note(folder, run_dir, config, *, resume):
        result = train(folder, run_dir, config, resume=resume)
        calls.append((config.leave_out, resume, result))
        return result

    monkeypatch.setattr(cross_archive, "train", train_and_note)
    return calls


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("few_draws")
def test_each_archive_is_measured_with_and_without_it(synthetic_dataset, tmp_path, runs):
    results = across_archives(synthetic_dataset, tmp_path, CONFIG)
    assert [archive_left_out for archive_left_out, _, _ in runs] == ["", *ARCHIVES]
    assert list(results.archives) == ARCHIVES
    full = runs[0][2]
    rows = full.data.rows("validation")
    for archive, (_, _, without) in zip(ARCHIVES, runs[1:], strict=True):
        here = (full.data.table["archive"].iloc[rows] == archive).to_numpy(bool)
        part = results.archives[archive]
        assert part.n == here.sum() > 0
        assert part.left_out + part.trained_on == len(full.data.rows("train"))
        check_metrics(part, "with_archive", full, here)
        check_metrics(part, "without_archive", without, here)
    assert results.steps == len(full.data.rows("train")) // 16 * 2


def check_metrics(part, key, run, inside):
    """Check the metrics of a run on the validation images of one archive."""
    rows = run.data.rows("validation")[inside]
    logits = run.validation_logits[inside]
    measured = build_metrics(
        run.data.table.iloc[rows],
        calibration.probabilities(logits, 1.0, calibration.NO_BIAS),
        lesions=run.data.groups.iloc[rows],
    )
    assert getattr(part.balanced_accuracy, key) == measured.balanced_accuracy
    assert getattr(part.malignant_auc, key) == measured.malignant_auc
    assert getattr(part.melanoma_auc, key) == measured.auc["MEL"]
    assert getattr(part.intervals.malignant_auc, key) == measured.intervals.malignant_auc


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("few_draws")
def test_a_stopped_comparison_resumes_and_trains_nothing_twice(
    synthetic_dataset, tmp_path, monkeypatch
):
    started = []

    def stopped_at_the_second(folder, run_dir, config, *, resume):
        started.append((config.leave_out, resume))
        if len(started) == 3:
            raise KeyboardInterrupt
        return train(folder, run_dir, config, resume=resume)

    monkeypatch.setattr(cross_archive, "train", stopped_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        across_archives(synthetic_dataset, tmp_path / "parts", CONFIG)
    before = (tmp_path / "parts" / "all" / HISTORY_FILE).read_bytes()
    resumed = across_archives(synthetic_dataset, tmp_path / "parts", CONFIG, resume=True)
    assert started[3:] == [("", True), ("BCN20000", True), ("HAM10000", False), ("MSK", False)]
    assert (tmp_path / "parts" / "all" / HISTORY_FILE).read_bytes() == before
    assert resumed == across_archives(synthetic_dataset, tmp_path / "whole", CONFIG)


def test_runs_of_another_recipe_are_refused_or_deleted(synthetic_dataset, tmp_path, monkeypatch):
    train(synthetic_dataset, tmp_path / "all", CONFIG)
    longer = TrainConfig(**{**SETTINGS, "epochs": 3})
    with pytest.raises(TrainingFailed, match="epochs 2, not 3.*--overwrite"):
        across_archives(synthetic_dataset, tmp_path, longer, resume=True)

    begun = []

    def stopped(_folder, run_dir, config, *, resume):
        begun.append((resume, (run_dir / CHECKPOINT_FILE).exists()))
        raise KeyboardInterrupt

    monkeypatch.setattr(cross_archive, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        across_archives(synthetic_dataset, tmp_path, longer)
    assert begun == [(False, False)]


def test_images_of_one_archive_cannot_be_compared(synthetic_dataset, tmp_path):
    folder = shutil.copytree(synthetic_dataset, tmp_path / "one")
    path = next(folder.glob("*Metadata.csv"))
    path.write_text(path.read_text().replace("BCN_", "HAM_").replace("MSK4_", "HAM_"))
    with pytest.raises(TrainingFailed, match="two archives .* but got HAM10000"):
        across_archives(folder, tmp_path / "runs", TrainConfig(**{**SETTINGS, "epochs": 1}))


def test_a_recipe_that_leaves_out_an_archive_itself_is_refused(synthetic_dataset, tmp_path):
    with pytest.raises(TrainingFailed, match="no `leave_out`"):
        across_archives(synthetic_dataset, tmp_path, TrainConfig(**SETTINGS, leave_out="MSK"))


@pytest.fixture(scope="module")
def compared_runs():
    """Return labels, the probabilities of a good and of a worse run, and their comparison."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 400)
    lesions = rng.integers(0, 250, 400)
    good = rng.dirichlet(np.ones(8), 400) + 0.5 * np.eye(8)[labels]
    worse = good + 0.4 * rng.dirichlet(np.ones(8), 400)
    good = good / good.sum(axis=1, keepdims=True)
    worse = worse / worse.sum(axis=1, keepdims=True)
    return labels, good, worse, compare(labels, lesions, good, worse)


def test_the_metrics_of_both_runs_are_those_of_scikit_learn(compared_runs):
    labels, good, worse, comparison = compared_runs
    for key, probabilities in (("with_archive", good), ("without_archive", worse)):
        score = malignant_probability(probabilities)
        accuracy = balanced_accuracy_score(labels, probabilities.argmax(axis=1))
        malignant_auc = roc_auc_score(malignant_truth(labels), score)
        melanoma_auc = roc_auc_score(labels == CODES.index("MEL"), probabilities[:, 0])
        assert getattr(comparison.balanced_accuracy, key) == pytest.approx(accuracy)
        assert getattr(comparison.malignant_auc, key) == pytest.approx(malignant_auc)
        assert getattr(comparison.melanoma_auc, key) == pytest.approx(melanoma_auc)


def test_the_change_is_the_difference_and_its_interval_is_paired(compared_runs):
    _, _, _, comparison = compared_runs
    for name in METRICS:
        metric = getattr(comparison, name)
        interval = getattr(comparison.intervals, name)
        assert metric.change == pytest.approx(metric.without_archive - metric.with_archive)
        low, high = interval.change
        assert low < metric.change < high
        # Lesions that are difficult for both runs do not widen the interval of the change.
        assert high - low < interval.with_archive[1] - interval.with_archive[0]


def test_a_metric_without_its_class_is_not_defined():
    labels = np.array([CODES.index("NV")] * 4)
    comparison = compare(labels, np.arange(4), np.eye(8)[labels], np.eye(8)[labels])
    assert comparison.melanoma_auc == TwoRuns(with_archive=None, without_archive=None, change=None)
    assert comparison.balanced_accuracy.change == 0


def test_the_recipe_is_cheaper_than_training_and_of_the_same_network():
    assert ACROSS_RECIPE.backbone == TrainConfig().backbone
    assert ACROSS_RECIPE.epochs < TrainConfig().epochs
    assert ACROSS_RECIPE.leave_out == ""


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("few_draws")
def test_the_command_writes_the_result_into_a_model(
    synthetic_dataset, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    original = Path(__file__).parent.parent / "models" / "isic2019"
    model = tmp_path / "models" / "m"
    shutil.copytree(original, model)
    before = read_json(model / METRICS_FILE)
    where = {"data": synthetic_dataset, "run_dir": tmp_path / "runs", "into_model": "m"}
    line = ["across", *flags({**where, **SETTINGS})]
    assert main(line) == 0
    assert "trained without it" in capsys.readouterr().out
    across_metrics = read_json(tmp_path / "runs" / "across.json")["across_archives"]
    assert read_json(model / METRICS_FILE) == before | {"across_archives": across_metrics}
    assert across_metrics["recipe"]["input_px"] == 64
    card = (model / CARD_FILE).read_text(encoding="utf-8")
    change = across_metrics["archives"]["MSK"]["malignant_auc"]["change"]
    assert f"{change:+.3f}" in card
    assert main(line) == 2
    assert "continue with --resume, or start again with --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["--into-model", "nonesuch"], ["--epochs", "0"], ["--devices", "2"]]
)
def test_bad_usage_ends_before_any_training(synthetic_dataset, tmp_path, wrong, capsys):
    where = ["--data", str(synthetic_dataset), "--run-dir", str(tmp_path / "runs")]
    assert main(["across", *where, *wrong]) == 2
    assert not (tmp_path / "runs").exists()
