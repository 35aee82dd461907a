import numpy as np
import pandas as pd
import pytest
from msgspec import UNSET, structs
from sklearn.metrics import average_precision_score

from cadlib.evaluation import threshold_curves
from cadlib.evaluation.cached import Evaluated
from cadlib.metrics.classification import malignant_probability, malignant_truth
from cadlib.metrics.summary import summarise
from cadlib.taxonomy import CODES
from tests.measured import evaluation_metrics


@pytest.fixture(scope="module")
def evaluated():
    """Return the evaluation of a guessing model on 300 images."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 300)
    shares = rng.dirichlet(np.ones(8), 300)
    table = pd.DataFrame(
        {"image": [f"I{n}" for n in range(300)], "diagnosis": [CODES[place] for place in labels]}
    )
    metrics = evaluation_metrics(summarise(labels, shares, draws=20))
    return Evaluated(table.assign(lesion_id=None, lesion_group=None), shares, metrics, 0.4)


def test_areas_have_the_keys_of_the_curves(evaluated):
    assert threshold_curves.areas(evaluated.metrics).keys() == evaluated.metrics.roc.keys()
    area, ends = threshold_curves.areas(evaluated.metrics)["malignant"]
    assert area == evaluated.metrics.malignant_auc
    assert ends[0] < area < ends[1]


def test_average_precision_equals_scikit_learn_or_is_missing_in_old_metrics(
    evaluated,
):
    average = threshold_curves.average_precisions(evaluated.metrics)
    truth = malignant_truth(evaluated.labels)
    for name, expected in (
        ("malignant", average_precision_score(truth, evaluated.malignant)),
        (
            "melanoma",
            average_precision_score(evaluated.labels.codes == 0, evaluated.probabilities[:, 0]),
        ),
    ):
        area, ends = average[name]
        assert area == pytest.approx(expected)
        assert ends[0] < area < ends[1]
    earlier = structs.replace(evaluated.metrics, malignant_average_precision=UNSET)
    assert threshold_curves.average_precisions(earlier) == {"melanoma": average["melanoma"]}


def test_precision_and_recall_of_the_metrics_lie_on_those_of_the_images(evaluated):
    truth = malignant_truth(evaluated.labels)
    scores = malignant_probability(evaluated.probabilities)
    for images_or_none in (evaluated, None):
        curve = threshold_curves.precision_recall(evaluated.metrics, images_or_none)["malignant"]
        assert curve.positives == pytest.approx(truth.mean())
        possible = set()
        for threshold in scores:
            referred = scores >= threshold
            recall = (truth & referred).sum() / truth.sum()
            precision = truth[referred].mean()
            possible.add((round(recall, 4), round(precision, 3)))
        for recall, precision in zip(curve.recall, curve.precision, strict=True):
            assert recall == 0 or (round(float(recall), 4), round(float(precision), 3)) in possible


def test_a_decision_curve_has_an_interval_where_the_images_are_there(evaluated):
    with_images = threshold_curves.decision(evaluated.metrics, evaluated, 0.2)
    alone = threshold_curves.decision(evaluated.metrics, None, 0.2)
    assert with_images.low is not None
    assert alone.low is None
    assert np.interp(0.2, alone.threshold, alone.model) == pytest.approx(
        np.interp(0.2, with_images.threshold, with_images.model), abs=0.02
    )
