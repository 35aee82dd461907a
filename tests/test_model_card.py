import json

import msgspec
from msgspec import structs

from cadlib.metrics.tables import metric_text
from cadlib.model import card
from cadlib.model.metadata.acceptance import judge
from cadlib.model.metadata.changes import SensitivityDifference
from cadlib.model.metrics_file import Metrics, metrics_json
from cadlib.model.record import CARD_FILE, METRICS_FILE, find_model, read_record
from cadlib.taxonomy import CODES


def shipped():
    folder = find_model("isic2019")
    return folder, read_record(folder), json.loads((folder / METRICS_FILE).read_text())


def render(record, metrics):
    """Return the card of the metrics in a JSON object."""
    return card.render(record, msgspec.convert(metrics, Metrics))


def test_the_shipped_card_is_rendered_from_its_metrics():
    folder, record, metrics = shipped()
    assert (folder / CARD_FILE).read_text(encoding="utf-8") == render(record, metrics)


def test_a_changed_metric_changes_the_card():
    _, record, metrics = shipped()
    before = render(record, metrics)
    metrics["balanced_accuracy"] = 0.125
    after = render(record, metrics)
    assert "| 0.125 (" not in before
    assert "| 0.125 (" in after


def test_the_card_explains_prediction_sets_and_their_data():
    _, record, shipped_metrics = shipped()
    metrics = {
        **shipped_metrics,
        "prediction_sets": {
            "target": 0.9, "coverage": {**shipped_metrics["auc"], "MEL": 0.875},
            "overall": 0.913, "size": 1.84, "empty": 0.021,
            "intervals": {"coverage": dict.fromkeys(CODES), "overall": [0.9, 0.93], "size": None, "empty": None},
        },
    }  # fmt: skip
    text = render(record, metrics)
    assert "0.91 (95 % CI 0.90 to 0.93) of all images" in text
    assert "| Melanoma (MEL) |" in text
    assert "| 0.875 |" in text
    assert f"measured on the {metrics['data']['split']} split" in text
    assert "## Prediction sets" not in render(
        record, {k: v for k, v in metrics.items() if k != "prediction_sets"}
    )


def test_the_card_states_a_missing_audit():
    _, record, metrics = shipped()
    text = render(structs.replace(record, audit=None), metrics)
    assert "## Leak audit" in text
    assert "Not audited: it is not known" in text
    assert "validated" not in text


def compared(change, interval=(-0.2, -0.1)):
    """Return the comparison of one archive, every metric with the same change."""
    metric = {"with": 0.7, "without": None if change is None else 0.7 + change, "change": change}
    of_change = None if change is None else list(interval)
    within = {"with": [0.5, 0.75], "without": [0.5, 0.75], "change": of_change}
    names = ("balanced_accuracy", "malignant_auc", "melanoma_auc")
    return {
        "n": 321,
        "n_lesions": 300,
        "n_classes": 3,
        "trained_on": 9041,
        "left_out": 7853,
        "intervals": dict.fromkeys(names, within),
        **dict.fromkeys(names, metric),
    }


def test_the_card_shows_the_loss_across_archives_with_its_settings():
    _, record, metrics = shipped()
    metrics["across_archives"] = {
        "data": "isic2019",
        "split_sha256": "ab" * 32,
        "git_commit": "0" * 40,
        "recipe": {"backbone": "resnet18", "input_px": 112, "epochs": 3},
        "steps": 1584,
        "archives": {
            "BCN20000": compared(-0.15),
            "HAM10000": compared(-0.05),
            "MSK": compared(None),
        },
    }
    text = render(record, metrics)
    assert "balanced accuracy changed by −0.15 (BCN20000) to −0.05 (HAM10000)" in text
    assert "resnet18, 112 px, 3 epochs, 1,584 steps each" in text
    row = next(line for line in text.splitlines() if line.startswith("| BCN20000 |"))
    cells = [
        "BCN20000",
        "321",
        "3",
        "balanced accuracy",
        "0.700 (0.500 to 0.750)",
        "0.550 (0.500 to 0.750)",
    ]
    assert row == f"| {' | '.join([*cells, '-0.150 (-0.200 to -0.100)'])} |"
    assert "not defined |" in next(
        line for line in text.splitlines() if line.startswith("| MSK | 321")
    )
    assert "Not measured: it is not known how much worse" not in text


def test_the_card_states_a_missing_comparison_across_archives():
    _, record, metrics = shipped()
    metrics.pop("across_archives", None)
    assert (
        "## Results on unseen archives\n\nNot measured: it is not known how much worse"
        in render(record, metrics)
    )


def test_the_card_marks_an_undefined_metric():
    _, record, metrics = shipped()
    metrics["auc"]["DF"] = None
    row = next(
        line for line in render(record, metrics).splitlines() if line.startswith("| Dermatofibroma")
    )
    assert row.endswith("| not defined |")


def test_the_card_lists_every_limit_and_the_licence():
    _, record, metrics = shipped()
    text = render(record, metrics)
    for text_of_record in (*record.known_limits, record.data_licence, record.intended_use):
        assert text_of_record in text


def test_the_card_states_missing_robustness_results():
    _, record, metrics = shipped()
    metrics.pop("robustness", None)
    text = render(record, metrics)
    assert "## Robustness to image degradation" not in text
    assert "The performance on degraded images was not measured" in text


def test_every_corruption_has_a_row_with_its_falls(across_damage):
    _, record, metrics = shipped()
    parsed = json.loads(metrics_json(across_damage(record)))
    rows = (
        render(record, {**metrics, "robustness": parsed})
        .split("## Robustness to image degradation")[1]
        .splitlines()
    )
    for name, part in parsed["corruptions"].items():
        [row] = [line for line in rows if line.startswith(f"| {name} |")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[2].split()[0] == f"{part['balanced_accuracy_fall']['5']:.3f}"
        assert cells[3] == metric_text(
            part["malignant_auc_fall"]["mean"], part["intervals"]["malignant_auc_fall"]["mean"]
        )
        assert cells[5] == f"{part['relative_error']:.3f}"


def test_the_card_shows_the_effect_of_rotation_and_the_worst_damage(across_damage):
    _, record, metrics = shipped()
    parsed = json.loads(metrics_json(across_damage(record)))
    parsed["corruptions"]["hair"]["balanced_accuracy_fall"]["mean"] = 0.9
    parsed["flips"]["rate"]["mean"] = 0.1234
    text = render(record, {**metrics, "robustness": parsed})
    assert "The most harmful degradations are hair (" in text
    assert "The top diagnosis changes in 0.12 (95 % CI " in text
    assert (
        "60 images of 60 lesions (a random sample, by diagnosis and archive, of the 90 images of the validation"
        in text
    )


def saliency_metrics(**changes):
    """Return a result of `sanity.measure`, with metrics that can be recognised."""
    keys = ("grad-cam", "grad-cam++", "hirescam", "layercam", "eigencam")
    metrics = {
        "faithfulness": {**dict.fromkeys(keys, 0.5), "random": 0.001, "centre": 0.321},
        "gain": {**dict.fromkeys(keys, 0.0), "layercam": 0.0625},
        "stability": {**dict.fromkeys(keys, 0.7), "random": 0.002},
        "unreadable": dict.fromkeys(keys, 0.25),
        "untrained_likeness": dict.fromkeys(keys, 0.125),
        "untrained_faithfulness": dict.fromkeys(keys, None),
    }
    by_diagnosis = {
        "n": dict.fromkeys(CODES, 3),
        **{k: dict.fromkeys(CODES, 0.875) for k in ("faithfulness", "unreadable")},
    }
    return {
        "model": {"name": "drawn", "version": "1", "weights_sha256": "ab" * 32},
        "rejected": {},
        "data": {"name": "drawn", "split": "validation"},
        "sample": {"of": 90, "strata": "diagnosis and archive", "seed": 0},
        "n": 60, "n_lesions": 50,
        **metrics,
        "by_diagnosis": {
            **by_diagnosis,
            "intervals": dict.fromkeys(("faithfulness", "unreadable"), dict.fromkeys(CODES)),
        },
        "limits": {"faithfulness": 0.4444, "stability": 0.3333},
        "best": "grad-cam",
        "intervals": {
            **{name: dict.fromkeys(values) for name, values in metrics.items()},
            "gain": {**dict.fromkeys(keys), "layercam": [0.03125, 0.1]},
        },
        **changes,
    }  # fmt: skip


def saliency_section(saliency):
    _, record, metrics = shipped()
    return (
        render(record, {**metrics, "saliency": saliency})
        .split("## Saliency maps")[1]
        .split("\n## ")[0]
    )


def test_every_map_has_a_row_with_its_metrics_in_the_card():
    text = saliency_section(saliency_metrics())
    assert (
        "60 images of 50 lesions (a random sample, by diagnosis and archive, of the 90 images of the validation"
        in text
    )
    assert (
        "| layercam | 0.500 | 0.062 (0.031 to 0.100) | 0.700 | 0.250 | 0.125 | not defined |"
        in text
    )
    assert "| random | 0.001 |  | 0.002 |  |  |  |" in text
    assert "| centre | 0.321 |  |  |  |  |  |" in text
    assert "a faithfulness of at most 0.44 and a correlation of at most 0.33" in text
    assert "| Melanoma (MEL) | 3 | 0.875 | 0.875 |" in text


def test_the_card_names_the_best_saliency_method_and_its_significance():
    assert (
        "The method that comes with each prediction, grad-cam, has the highest faithfulness: 0.50."
        in saliency_section(saliency_metrics())
    )
    assert (
        "layercam has the highest faithfulness, 0.06 (95 % CI 0.03 to 0.10) above grad-cam, which comes "
        "with each prediction; the difference is significant, so the app shows it first."
        in saliency_section(saliency_metrics(best="layercam"))
    )
    by_chance = saliency_metrics(best="layercam")
    by_chance["intervals"]["gain"]["layercam"] = [-0.1, 0.2]
    assert (
        "the difference is not significant, so the app shows the map that comes with each prediction first."
        in saliency_section(by_chance)
    )


def test_the_card_states_missing_saliency_results():
    assert "whether the saliency maps show what a result depends on" in saliency_section(None)


def test_the_card_shows_the_effect_of_age_sex_and_site(taught_folder):
    _, _, metrics = shipped()
    record = read_record(taught_folder)
    card_text = render(record, metrics)
    assert "so the model uses them" in card_text
    assert "| archive A | +0.100 (+0.100 to +0.100) |" in card_text
    without_evidence = structs.replace(record.metadata, logits=None)
    assert "did not help in every archive" in render(
        structs.replace(record, metadata=without_evidence), metrics
    )
    assert "## Age, sex and site" not in render(structs.replace(record, metadata=None), metrics)


BANDS = {
    "0 to 29": SensitivityDifference(0.9, 0.85, -0.12, 0.0, n_malignant=1040),
    "30 to 44": SensitivityDifference(None, None, None, None, n_malignant=0),
}


def test_the_card_states_the_verdict_on_facts_and_the_sensitivity_by_age(taught_folder):
    _, _, metrics = shipped()
    record = read_record(taught_folder)
    [better] = record.metadata.differences.values()
    changes = {"all": better, "archive A": better}
    text = judge(changes, BANDS).text
    trial = structs.replace(record.metadata, differences=changes, age_bands=BANDS, result=text)
    accepted = render(structs.replace(record, metadata=trial), metrics)
    assert f"{text}\nSo the model uses them" in accepted
    assert text.startswith("Accepted.")
    assert "| 0 to 29 | 1,040 | 0.900 | 0.850 | -0.050 (-0.120 to +0.000) |" in accepted
    assert "| 30 to 44 | 0 | not defined | not defined | not defined |" in accepted
    without = structs.replace(trial, logits=None, operating_points=(), result="Rejected. Why.")
    rejected = render(structs.replace(record, metadata=without), metrics)
    assert "Rejected. Why.\nSo the model does not use them." in rejected


def test_a_record_of_an_earlier_version_has_no_ages_on_the_card(taught_folder):
    _, _, metrics = shipped()
    assert "The sensitivity at the default operating point, by age" not in render(
        read_record(taught_folder), metrics
    )
