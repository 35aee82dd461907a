import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import msgspec
import numpy as np
import pandas as pd
import pytest
from msgspec import structs
from PIL import Image

from cadlib.data.dataset import Dataset, DatasetReport
from cadlib.evaluation.evaluate import build_metrics, evaluate
from cadlib.images.preprocess import InputSpec
from cadlib.metrics.operating_point import Threshold
from cadlib.metrics.summary import summarise
from cadlib.metrics.summary_schema import DataFacts, EvaluationMetrics, ModelFacts
from cadlib.metrics.tables import metrics_table
from cadlib.model.calibration import NO_BIAS, Temperature
from cadlib.model.metrics_file import metrics_json
from cadlib.model.record import ConformalSets, Quantiles
from cadlib.taxonomy import CLASSES, CODES
from tests.stand_in_outputs import outputs_of

pytestmark = pytest.mark.usefixtures("empty_cache")

POINT = Threshold("balanced", threshold=0.4)
LOGITS = 2 * np.log(0.04 + 0.68 * np.eye(8, dtype=np.float32))
"""Row i is divided by a temperature of 2 into 0.72 for class i and 0.04 for each other."""


class ColourReader:
    """Stands in for a Model: reads the diagnosis from the red of the picture, 20 a class."""

    record = SimpleNamespace(
        name="colour-reader",
        version="1.0.0",
        weights_sha256="ab" * 32,
        operating_points=(POINT,),
        temperature=Temperature(2.0, 2.0),
        bias=NO_BIAS,
        input=InputSpec(32, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), symmetric=True),
        members=(SimpleNamespace(weights_sha256="ab" * 32, onnx_sha256="cd" * 32),),
        views=1,
        average="logits",
        balanced_rule=None,
        conformal=ConformalSets(0.9, Quantiles(**dict.fromkeys(CODES, 0.5))),
    )

    folds = MappingProxyType({})

    def __init__(self) -> None:
        self.batches: list[int] = []

    def see(self, pixels: np.ndarray) -> SimpleNamespace:
        reds = pixels[:, 0, 0, 0]
        self.batches.append(len(reds))
        features = np.zeros((len(reds), 4), np.float32)
        return outputs_of(LOGITS[reds // 20], features)

    def novelty(self, looks: np.ndarray) -> list[None]:
        return [None] * len(looks)


def picture_of(code: str, path: Path, size: tuple[int, int] = (64, 64)) -> Path:
    Image.new("RGB", size, (20 * CODES.index(code) + 10, 90, 90)).save(path)
    return path


def table_of(diagnoses: Iterable[str | None], **columns: object) -> pd.DataFrame:
    diagnoses = list(diagnoses)
    table = pd.DataFrame(
        {
            "image": [f"ISIC_{i:07}" for i in range(len(diagnoses))],
            "diagnosis": pd.array(diagnoses, dtype="str"),
            "width_px": pd.array([600] * len(diagnoses), dtype="Int64"),
            "height_px": pd.array([450] * len(diagnoses), dtype="Int64"),
        }
    )
    unknown = ("archive", "sex", "anatom_site_general", "lesion_id", "lesion_group")
    table = table.assign(**{name: pd.array([None] * len(table), dtype="str") for name in unknown})
    table["age_approx"] = pd.array([None] * len(table), dtype="Float64")
    return table.assign(**columns)


def dataset_of(folder: Path, depicted: Iterable[str], labelled: Iterable[str | None]) -> Dataset:
    table = table_of(labelled)
    paths = [
        str(picture_of(code, folder / f"{image}.png"))
        for code, image in zip(depicted, table["image"], strict=True)
    ]
    return Dataset(
        "Twelve pictures",
        table.assign(path=paths),
        DatasetReport(len(table), len(table), len(table), ()),
    )


@pytest.fixture
def dataset(tmp_path: Path, few_draws: None) -> Dataset:
    """Twelve pictures: one a class, an NV labelled MEL, a VASC labelled UNK, two without a label."""
    depicted = [*CODES, "NV", "VASC", "MEL", "BCC"]
    return dataset_of(tmp_path, depicted, [*CODES, "MEL", "UNK", None, None])


def test_compares_predictions_with_labels(dataset):
    metrics = evaluate(ColourReader(), dataset).metrics
    assert metrics.n == 9
    assert metrics.accuracy == pytest.approx(8 / 9)
    assert metrics.balanced_accuracy == pytest.approx(7.5 / 8)
    assert metrics.n_by_class["MEL"] == 2


def test_images_without_a_countable_label_are_predicted_and_counted_apart(dataset):
    result = evaluate(ColourReader(), dataset)
    assert (result.metrics.unlabelled, result.metrics.unknown) == (2, 1)
    assert result.predictions["image"].tolist() == dataset.table["image"].tolist()


def test_predictions_have_the_columns_of_isic(dataset):
    predictions = evaluate(ColourReader(), dataset).predictions
    assert ",".join(predictions.columns) == "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
    assert (predictions["UNK"] == 0).all()
    assert predictions.drop(columns="image").sum(axis=1).to_numpy() == pytest.approx(1)


def test_each_prediction_belongs_to_its_image(dataset):
    predictions = evaluate(ColourReader(), dataset, batch_size=3).predictions
    depicted = [*CODES, "NV", "VASC", "MEL", "BCC"]
    assert predictions[list(CODES)].idxmax(axis=1).tolist() == depicted


def test_an_unreadable_image_is_named_and_shifts_no_other(dataset):
    damaged = [0, 5, 11]
    for row in damaged:
        Path(dataset.table["path"][row]).write_bytes(b"%PDF-1.7")
    result = evaluate(ColourReader(), dataset, batch_size=2)
    assert list(result.rejected) == dataset.table["image"][damaged].tolist()
    assert all("PDF" in reason for reason in result.rejected.values())
    assert result.predictions["image"].tolist() == dataset.table["image"].drop(damaged).tolist()
    assert result.metrics.n_by_class == dict.fromkeys(CODES, 1) | {"DF": 0}
    assert result.metrics.sensitivity["BCC"] == 1
    assert result.metrics.data.images == 9
    assert all(image in str(result) for image in result.rejected)


def test_nothing_readable_gives_no_metric(dataset):
    for path in dataset.table["path"]:
        Path(path).write_bytes(b"")
    result = evaluate(ColourReader(), dataset)
    assert result.metrics.n == 0
    assert result.metrics.balanced_accuracy is None
    assert len(result.rejected) == 12
    assert "not defined" in str(result)


def test_images_reach_the_model_in_batches(dataset):
    model = ColourReader()
    evaluate(model, dataset, batch_size=5)
    assert model.batches == [5, 5, 2]


@pytest.mark.timeout(30)
def test_two_unreadable_images_of_one_id_end_like_others(dataset):
    table = dataset.table.copy()
    table.loc[table.index[1], "image"] = table["image"].iloc[0]
    for path in table["path"].iloc[:2]:
        Path(path).write_bytes(b"")
    result = evaluate(ColourReader(), replace(dataset, table=table), batch_size=5)
    assert len(result.predictions) == len(table) - 2
    assert list(result.rejected) == [table["image"].iloc[0]]


def test_progress_ends_with_every_image(dataset):
    Path(dataset.table["path"][11]).write_bytes(b"")
    progress: list[tuple[int, int]] = []
    evaluate(ColourReader(), dataset, lambda _, *step: progress.append(step), batch_size=5)
    assert progress[-1] == (12, 12)
    assert all(a < b for (a, _), (b, _) in pairwise(progress))


def test_a_second_evaluation_does_not_run_the_model_again(dataset):
    model = ColourReader()
    first = evaluate(model, dataset)
    second = evaluate(model, dataset)
    assert model.batches == [12]
    assert second.predictions.equals(first.predictions)
    assert metrics_json(second.metrics) == metrics_json(first.metrics)


def test_rejects_a_batch_of_no_images(dataset):
    with pytest.raises(ValueError, match="`batch_size` to be at least 1 but got 0"):
        evaluate(ColourReader(), dataset, batch_size=0)


def test_operating_points_are_measured_on_these_images(dataset):
    (point,) = evaluate(ColourReader(), dataset).metrics.operating_points
    assert point.name == "balanced"
    assert point.threshold == 0.4
    assert (point.n_malignant, point.n_benign) == (5, 4)
    assert (point.sensitivity, point.specificity) == (pytest.approx(4 / 5), 1)
    assert point.intervals.specificity is None  # every draw agrees


def test_images_of_one_lesion_are_drawn_together():
    lesions = [f"HAM_{number // 4}" for number in range(400)]
    right = np.array([number // 4 % 3 > 0 for number in range(400)])
    probabilities = np.eye(8)[np.where(right, CODES.index("NV"), CODES.index("MEL"))]
    table = table_of(["NV"] * 400)
    alone = build_metrics(table, probabilities)
    together = build_metrics(table.assign(lesion_id=pd.array(lesions, dtype="str")), probabilities)
    assert (alone.n_lesions, together.n_lesions) == (400, 100)
    assert np.diff(together.intervals.accuracy) > 1.6 * np.diff(alone.intervals.accuracy)


def test_calibration_is_measured_before_and_after(dataset):
    metrics = evaluate(ColourReader(), dataset).metrics
    sure = 0.72**2 / (0.72**2 + 7 * 0.04**2)
    right = 8 / 9  # the temperature of 2 undone
    assert metrics.ece_uncalibrated == pytest.approx(abs(sure - right))
    assert metrics.ece == pytest.approx(abs(0.72 - right))


def test_names_the_model_and_the_data(dataset):
    metrics = evaluate(ColourReader(), dataset).metrics
    assert metrics.model == ModelFacts(
        name="colour-reader", version="1.0.0", weights_sha256="ab" * 32
    )
    assert metrics.data == DataFacts(name="Twelve pictures", images=12)


def test_written_files_hold_the_evaluation(dataset, tmp_path):
    result = evaluate(ColourReader(), dataset)
    result.write(tmp_path / "out" / "first")
    folder = tmp_path / "out" / "first"
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.json", "predictions.csv"]
    parsed = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert msgspec.convert(parsed, EvaluationMetrics) == result.metrics
    pd.testing.assert_frame_equal(pd.read_csv(folder / "predictions.csv"), result.predictions)


def test_a_failed_write_leaves_the_former_files(dataset, tmp_path, monkeypatch):
    result = evaluate(ColourReader(), dataset)
    result.write(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full_disk(metrics: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cadlib.evaluation.evaluate.metrics_json", full_disk)
    result.predictions.loc[0, "UNK"] = 1.0
    with pytest.raises(OSError, match="No space left"):
        result.write(tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_metrics_of_known_probabilities_are_the_summary_of_the_labelled_rows():
    table = table_of(["NV", None, "MEL", "UNK", "NV"])
    probabilities = np.random.default_rng(0).dirichlet(np.ones(8), 5)
    metrics = build_metrics(table, probabilities)
    labels = np.array([CODES.index(code) for code in ("NV", "MEL", "NV")])
    summary = summarise(labels, probabilities[[0, 2, 4]])
    of_metrics = {name: getattr(metrics, name) for name in summary.__struct_fields__}
    assert of_metrics == structs.asdict(summary)


def test_subgroups_are_size_archive_age_sex_and_site():
    table = table_of(
        ["MEL", "NV", "NV", "BCC", "UNK"],
        width_px=pd.array([600, 150, 84, 200, 84], dtype="Int64"),
        height_px=pd.array([450, 200, 84, 149, 84], dtype="Int64"),
        archive=pd.array(["HAM10000", "HAM10000", "BCN20000", None, "MSK"], dtype="str"),
        age_approx=pd.array([0, 29.5, 30, None, 85], dtype="Float64"),
        sex=pd.array(["male", "female", "female", "male", "male"], dtype="str"),
        anatom_site_general=pd.array(["head/neck", None, None, None, "torso"], dtype="str"),
    )
    subgroups = build_metrics(table, np.eye(8)[[0, 0, 1, 2, 3]]).subgroups
    assert {name: (group.n, group.accuracy) for name, group in subgroups.items()} == {
        "short side ≥ 150 px": (2, 0.5),
        "short side < 150 px": (2, 1),
        "archive BCN20000": (1, 1),
        "archive HAM10000": (2, 0.5),
        "archive not known": (1, 1),
        "age 0 to 29": (2, 0.5),
        "age 30 to 44": (1, 1),
        "age not known": (1, 1),
        "sex female": (2, 0.5),
        "sex male": (2, 1),
        "site head/neck": (1, 1),
        "site not known": (3, 2 / 3),
    }
    assert not hasattr(subgroups["archive HAM10000"], "roc")


def test_images_of_unknown_size_are_a_subgroup():
    sizes = pd.array([600, None, 84], dtype="Int64")
    table = table_of(["MEL", "NV", "NV"], width_px=sizes, height_px=sizes)
    subgroups = build_metrics(table, np.eye(8)[[0, 1, 1]]).subgroups
    counts = {name: group.n for name, group in subgroups.items() if "side" in name}
    assert counts == {
        "short side ≥ 150 px": 1,
        "short side < 150 px": 1,
        "short side not known": 1,
    }


def test_metrics_json_is_strict_even_without_an_image():
    text = metrics_json(build_metrics(table_of([]), np.empty((0, 8)), [POINT]))
    metrics = json.loads(text, parse_constant=pytest.fail)
    assert metrics["operating_points"][0]["sensitivity"] is None
    assert metrics["subgroups"] == {}


def test_rejects_probabilities_of_another_length():
    with pytest.raises(ValueError, match="row of `probabilities` for 1 images but got 2"):
        build_metrics(table_of(["NV"]), np.eye(8)[:2])


def test_rejects_an_unknown_diagnosis():
    with pytest.raises(ValueError, match=r"`diagnosis` to be one of MEL, .* but got \['naevus'\]"):
        build_metrics(table_of(["naevus"]), np.eye(8)[:1])


def test_the_table_shows_every_metric_with_its_n(dataset):
    text = str(evaluate(ColourReader(), dataset))
    lines = text.splitlines()
    assert lines[0] == (
        "colour-reader 1.0.0 on Twelve pictures: 9 images with a label, 2 unlabelled, 1 unknown"
    )
    [balanced] = [line for line in lines if line.startswith("balanced accuracy")]
    row = "0.938 not defined n = 9 of 8 classes, most probable diagnosis"
    assert balanced.split()[2:] == row.split()
    [melanoma] = [line for line in lines if line.startswith("MEL")]
    assert melanoma.split()[:5] == ["MEL", "Melanoma", "2", "0.500", "1.000"]
    assert melanoma.split()[7:] == ["0.611", "0.750", "not", "defined"]


def test_the_columns_of_the_table_are_aligned():
    metrics = build_metrics(table_of(["NV", "MEL"]), np.eye(8)[[1, 0]])
    block = metrics_table(metrics).split("\n\n")[2].splitlines()
    assert len(block) == 9
    assert len({len(line) for line in block}) == 1


def test_needs_no_torch():
    code = "import sys, cadlib.evaluation.evaluate; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=False, cwd=Path(__file__).parent.parent
        ).returncode
        == 0
    )


def test_a_prediction_set_is_measured_by_how_often_it_holds_the_truth():
    table = table_of(["MEL", "MEL", "NV", "NV"])
    probabilities = np.full((4, 8), 0.02)
    probabilities[0, [0, 1]] = 0.50, 0.38  # MEL alone
    probabilities[1, [0, 1]] = 0.38, 0.50  # none: an NV needs 0.6
    probabilities[2, [0, 1]] = 0.26, 0.62  # NV
    probabilities[3, [0, 1]] = 0.26, 0.62
    sets = ConformalSets(0.9, Quantiles(**{**dict.fromkeys(CODES, 0.5), "NV": 0.4}))
    sets_measured = build_metrics(table, probabilities, sets=sets).prediction_sets
    assert sets_measured.target == 0.9
    assert sets_measured.coverage == {**dict.fromkeys(CODES), "MEL": 0.5, "NV": 1.0}
    assert (sets_measured.overall, sets_measured.size, sets_measured.empty) == (0.75, 0.75, 0.25)
    low, high = sets_measured.intervals.overall
    assert low <= 0.75 <= high
    assert sets_measured.intervals.coverage["NV"] is None  # every draw agrees


def test_an_evaluation_measures_the_prediction_sets_of_the_eight_classes_alone(tmp_path):
    dataset = dataset_of(tmp_path, CODES, CODES)
    sets_measured = evaluate(ColourReader(), dataset).metrics.prediction_sets
    assert sets_measured.coverage == dict.fromkeys(CODES, 1.0)
    assert (sets_measured.overall, sets_measured.size, sets_measured.empty) == (1.0, 1.0, 0.0)
    seven = evaluate(ColourReader(), dataset, classes=CLASSES[7]).metrics
    assert seven.prediction_sets is None


def test_intervals_do_not_depend_on_lesion_numbers():
    rng = np.random.default_rng(0)
    table = table_of(rng.choice(CODES, 60))
    probabilities = rng.dirichlet(np.ones(8), 60)
    lesions = pd.Series(np.arange(60) // 2)
    sets = ConformalSets(0.9, Quantiles(**dict.fromkeys(CODES, 0.8)))
    near = build_metrics(table, probabilities, [POINT], lesions=lesions, sets=sets)
    far = build_metrics(table, probabilities, [POINT], lesions=(lesions * 50), sets=sets)
    assert near == far
