"""The report: every metric of metrics.json, nothing from the network, nothing from a file as markup."""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from msgspec import structs

from cadlib.__main__ import main
from cadlib.data.dataset import open_dataset
from cadlib.data.subsets import Subset, save_subset
from cadlib.evaluation.cached import COSTS, cached_evaluation, compared, evaluation_folder
from cadlib.metrics.comparison_table import Compared
from cadlib.metrics.operating_point import shown_name
from cadlib.metrics.summary import ECE_INTERVAL
from cadlib.metrics.summary_schema import SubgroupGap
from cadlib.model import metrics_file
from cadlib.model.record import CARD_FILE, METRICS_FILE, read_record
from cadlib.model.split import part_in_training
from cadlib.report import Subject, charts, render
from cadlib.report.sections import MOST_ERRORS, sections
from cadlib.taxonomy import CODES, DIAGNOSES, diagnosis
from tests.conftest import draw_few
from tests.model_folders import change_record
from tests.tiny_training import flags

pytestmark = pytest.mark.usefixtures("few_draws")

HOSTILE = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>"
FETCHED = {
    "src",
    "srcset",
    "data",
    "poster",
    "action",
    "formaction",
    "background",
    "cite",
    "manifest",
    "href",
}


class Reader(HTMLParser):
    """Collects the text of a report (without scripts and styles), its tables, its tags and its external addresses."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words = []
        self.rows = []
        self.tags = []
        self.fetched = []
        self._inside = ""
        self.feed(html)
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attributes):
        self._inside = tag
        self.tags.append(tag)
        self.fetched += [value for name, value in attributes if name in FETCHED and tag != "a"]
        self.fetched += [name for name, _ in attributes if name.startswith("on")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self._inside in ("script", "style"):
            return
        self.words.append(data)
        if self._inside in ("td", "th"):
            self.rows[-1][-1] += data

    def handle_endtag(self, tag):
        self._inside = ""

    def row(self, first, columns=0):
        """Return the cells after the first, of the first row with this first cell and this number of columns."""
        return next(
            row[1:] for row in self.rows if row and row[0] == first and len(row) - 1 >= columns
        )


@pytest.fixture(scope="module")
def model_with_rule(drawn_model, tmp_path_factory):
    """Return the folder of a model that has every part, a balanced rule too."""
    folder = shutil.copytree(drawn_model, tmp_path_factory.mktemp("model") / "with-rule")
    rule = {"power": 0.5, "frequencies": dict.fromkeys(CODES, 0.125) | {"MEL": 0.01}}
    change_record(folder, {"balanced_rule": rule}, golden=False)
    return folder


@pytest.fixture(scope="module")
def subject(model_with_rule, drawn_images, tmp_path_factory):
    """Return the subject of a report on 32 drawn lesions. It is shared: a test changes a copy."""
    dataset = open_dataset(drawn_images, verify=False)
    record = read_record(model_with_rule)
    with pytest.MonkeyPatch.context() as patch:
        draw_few(patch)
        patch.setenv("CADLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        evaluation = cached_evaluation(model_with_rule, record, dataset, lambda *_: None)
    role = part_in_training(model_with_rule, record, dataset)
    own = metrics_file.read(model_with_rule)
    card = (model_with_rule / CARD_FILE).read_text()
    return Subject(record, evaluation.metrics, "all images", *role, evaluation, own, card)


def metric_text(value, interval=None):
    """Return a metric of metrics.json in the form that the report has to show."""
    if value is None:
        return "not defined"
    if not interval:
        return f"{value:.3f}"
    low, high = interval
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


SINGLE_METRICS = {
    "Balanced accuracy": "balanced_accuracy",
    "Balanced accuracy, rule that favours rare diagnoses": "balanced_accuracy_by_rule",
    "Accuracy": "accuracy",
    "AUC, malignant or benign": "malignant_auc",
    "Average precision, malignant": "malignant_average_precision",
    f"Calibration error (ECE, 0 is best; {ECE_INTERVAL})": "ece",
    f"Calibration error before calibration ({ECE_INTERVAL})": "ece_uncalibrated",
    "Calibration error of the malignant probability": "malignant_ece",
    "Brier score (0 to 2, 0 is best)": "brier",
    "Brier score before calibration": "brier_uncalibrated",
}
"""Row of the report to name in metrics.json."""
METRICS_BY_DIAGNOSIS = ("sensitivity", "specificity", "ppv", "npv", "average_precision", "auc")


def test_the_report_has_every_metric_with_its_interval(subject):
    metrics = subject.metrics
    read = Reader(render(subject, "a test"))
    ends = metrics.intervals
    for text, name in SINGLE_METRICS.items():
        assert read.row(text)[0] == metric_text(getattr(metrics, name), getattr(ends, name))
    for key, value in metrics.malignant_specificity_at_sensitivity.items():
        specificity = read.row(f"Specificity at {float(key) * 100:.0f} % sensitivity")[0]
        assert specificity == metric_text(value, ends.malignant_specificity_at_sensitivity[key])
    for code, row in zip(CODES, metrics.confusion_matrix, strict=True):
        assert read.row(code, len(CODES)) == [str(n) for n in row]


def test_the_report_has_every_metric_of_each_diagnosis(subject):
    metrics = subject.metrics
    read = Reader(render(subject, "a test"))
    for d in DIAGNOSES:
        expected = [str(metrics.n_by_class[d.code])]
        for name in METRICS_BY_DIAGNOSIS:
            value = getattr(metrics, name)[d.code]
            interval = getattr(metrics.intervals, name)[d.code]
            expected.append(metric_text(value, interval))
        assert read.row(f"{d.mark} {d.name} ({d.code})") == expected


def test_no_metric_with_an_interval_is_missing_from_these_tests(subject):
    checked = {*SINGLE_METRICS.values(), *METRICS_BY_DIAGNOSIS}
    checked.add("malignant_specificity_at_sensitivity")
    assert checked == {*subject.metrics.intervals.__struct_fields__}


def test_the_report_has_operating_points_and_subgroups(subject):
    metrics = subject.metrics
    read = Reader(render(subject, "a test"))
    for point in metrics.operating_points:
        threshold, sensitivity, specificity, _, _ = read.row(shown_name(point.name))
        assert threshold == f"{point.threshold:.3f}"
        assert sensitivity == metric_text(point.sensitivity, point.intervals.sensitivity)
        assert specificity == metric_text(point.specificity, point.intervals.specificity)
    for name, part in metrics.subgroups.items():
        n, classes, balanced, area, melanoma, error = read.row(name)
        assert [n, classes] == [str(part.n), str(part.n_classes)]
        assert balanced == metric_text(part.balanced_accuracy, part.intervals.balanced_accuracy)
        assert area == metric_text(part.malignant_auc, part.intervals.malignant_auc)
        assert melanoma == metric_text(part.auc["MEL"], part.intervals.auc["MEL"])
        assert error == metric_text(part.ece, part.intervals.ece)


def test_the_report_has_prediction_sets_and_reliability_bins(subject):
    metrics = subject.metrics
    read = Reader(render(subject, "a test"))
    sets = metrics.prediction_sets
    for d in DIAGNOSES:
        coverage = metric_text(sets.coverage[d.code], sets.intervals.coverage[d.code])
        assert [f"{d.name} ({d.code})", coverage] in read.rows
    for name in ("overall", "size", "empty"):
        assert metric_text(getattr(sets, name), getattr(sets.intervals, name)) in read.text
    for b in metrics.reliability:
        assert not b.n or f"sure {b.confidence:.2f}, right {b.accuracy:.2f}, n {b.n}" in read.text
    for b in metrics.malignant_reliability:
        words = f"probability {b.confidence or 0:.2f}, malignant {b.accuracy or 0:.2f}, n {b.n}"
        assert not b.n or words in read.text


@pytest.fixture
def against(subject):
    """Return the comparison with a model that calls everything a nevus."""
    nevus = np.full_like(subject.evaluated.probabilities, 0.01)
    nevus[:, CODES.index("NV")] = 0.93
    nevus_evaluation = replace(subject.evaluated, probabilities=nevus)
    return Compared(
        subject.record.name,
        "nevus",
        compared(subject.evaluated, nevus_evaluation),
        "It knew them.",
        flattered=True,
    )


def test_the_comparison_equals_that_of_the_page(subject, against):
    alone = Reader(render(subject, "a test"))
    read = Reader(render(replace(subject, against=against), "a test"))
    assert "Comparison with" not in alone.text
    assert "Comparison with nevus" in read.text
    for rows in (against.difference_rows, against.test_rows):
        assert [*rows[0]] in read.rows
        for row in rows:
            assert [*row.values()] in read.rows
    assert against.note in read.text
    assert "nevus: It knew them." in read.text
    assert (
        charts.comparison_chart(against.comparison, against.first, "nevus").layout.meta["alt"]
        in read.text
    )
    assert read.fetched == []
    assert read.tags.count("figcaption") == 10


def test_a_significant_gap_is_marked(subject):
    group = next(iter(subject.metrics.subgroups))
    gap = SubgroupGap(
        group=group, metric="balanced_accuracy", subgroup=0.25, rest=0.5, interval=(-0.375, -0.125),
        kinds=2, lesions=20, p=0.01, adjusted=0.02, beyond_chance=True,
    )  # fmt: skip
    tested = structs.replace(subject.metrics, gaps=(gap,))
    read = Reader(render(replace(subject, metrics=tested), "a test"))
    assert read.row(group)[2].endswith(" ▼")
    assert "1 of 1 differences tested" in read.text


def errors_section(subject):
    """Return the section of a report that lists the errors."""
    return next(part for part in sections(subject) if part.title == "Errors by clinical cost")


def test_errors_follow_the_operating_point_by_cost(subject):
    wrong = subject.evaluated.errors(subject.record.operating_point("rule-in").threshold)
    assert len(wrong) > 0
    section = errors_section(replace(subject, point="rule-in"))
    assert [table.caption.rsplit(":", 1)[0].lower() for table in section.tables] == list(COSTS)
    rows = [row for table in section.tables for row in table.rows[1:]]
    assert [row[:2] for row in rows] == list(zip(wrong["image"], wrong["diagnosis"], strict=True))


def test_long_lists_of_errors_are_cut_with_their_count(subject):
    evaluated = subject.evaluated
    nevi = [row for row, code in enumerate(evaluated.table["diagnosis"]) if code == "NV"]
    rows = [*range(len(evaluated.table)), *nevi * (MOST_ERRORS // 2)]
    # Every lesion is predicted to be a melanoma.
    sure = np.tile([1.0, *[0.0] * 7], (len(rows), 1))
    images = [f"I{number}" for number in range(len(rows))]
    table = evaluated.table.iloc[rows].assign(image=images).reset_index(drop=True)
    many_errors = replace(evaluated, table=table, probabilities=sure)
    section = errors_section(replace(subject, evaluated=many_errors))
    benign = sum(not diagnosis(code).malignant for code in table["diagnosis"])
    assert benign > 2 * MOST_ERRORS
    assert section.tables[2].caption == f"Needless referral: {benign}, first {MOST_ERRORS} shown"
    assert len(section.tables[2].rows) == 1 + MOST_ERRORS


def test_the_report_names_model_images_and_training_overlap(subject):
    html = render(subject, "python -m cadlib report --model drawn")
    read = Reader(html)
    assert subject.record.weights_sha256 in read.text
    assert "32 labelled images of " in read.text
    ids = Subset("all", "drawn", tuple(subject.evaluated.table["image"]), "").sha256
    assert ids in read.text
    assert (
        '<p class="warning">16 of these images were used for training and 8 for choosing the model'
        in html
    )
    assert html.count(subject.record.intended_use) >= 3  # above, in the card, below
    assert re.search(
        r"Made \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC by cadlib \S+: python -m cadlib report", read.text
    )
    assert "Results on unseen archives" in read.text
    assert "Robustness to image degradation" in read.text


def test_every_chart_has_its_words_and_nothing_is_fetched(subject):
    html = render(subject, "a test")
    read = Reader(html)
    assert read.fetched == []
    assert "default-src 'none'" in html
    assert not {"img", "link", "iframe", "object", "embed", "a"} & {*read.tags}
    charts = [figure for part in sections(subject) for _, figure in part.charts]
    assert (
        len(charts) == html.count('class="plotly-graph-div"') == read.tags.count("figcaption") == 9
    )
    assert all(figure.layout.meta["alt"] in read.text for figure in charts)
    assert html.count("plotly.js v") == 1
    assert "@import" not in html.split("<style>")[1].split("</style>")[0]


def test_text_from_files_is_escaped(subject, against):
    evaluated = subject.evaluated
    tags = {}
    for text, link in (
        ("harmless", "words"),
        (HOSTILE, "![x](http://example.org/x.png) [y](javascript:alert(3))"),
    ):
        metrics = structs.replace(
            subject.metrics,
            data=structs.replace(subject.metrics.data, name=text),
            rejected={text: text},
            subgroups={f"{name} {text}": part for name, part in subject.metrics.subgroups.items()},
        )
        hostile_subject = replace(
            subject,
            record=structs.replace(subject.record, name=text, intended_use=text, data_licence=text),
            metrics=metrics,
            part=text,
            role=text,
            evaluated=replace(
                evaluated, table=evaluated.table.assign(image=text + evaluated.table["image"])
            ),
            card=f"{subject.card}\n\n{text}\n\n{link} `{text}`",
            against=replace(against, second=text, role=text),
        )
        read = Reader(render(hostile_subject, text))
        tags[text] = read.tags
        assert read.fetched == []
        assert read.text.count(text) > 10
    assert tags[HOSTILE] == tags["harmless"]


def test_a_leaking_split_is_reported_at_the_top(subject, model):
    leaking = structs.replace(model.record.audit, shared_lesions=3, leaks=True)
    html = render(replace(subject, record=structs.replace(subject.record, audit=leaking)), "a test")
    assert '<p class="warning">isic2019 ' in html
    assert html.index("NOT validated: its splits are not separate") < html.index("<h2>")


def test_a_missing_audit_is_reported_at_the_top(subject, model):
    html = render(replace(subject, record=structs.replace(subject.record, audit=None)), "a test")
    assert '<p class="warning">isic2019 ' in html
    assert html.index("not audited: it is not known") < html.index("<h2>")
    passed = replace(subject, record=structs.replace(subject.record, audit=model.record.audit))
    assert '<p class="warning">isic2019 ' not in render(passed, "a test")


def test_a_report_of_own_metrics_states_what_is_missing(subject):
    own = Subject(
        subject.record, subject.own, "the test split", "", False, None, subject.own, subject.card
    )
    read = Reader(render(own, "a test"))
    assert read.row("Balanced accuracy")[0] == metric_text(
        subject.own.balanced_accuracy, subject.own.intervals.balanced_accuracy
    )
    assert "Image lists are not available for saved results." in read.text
    assert subject.record.training.split_sha256 in read.text


def test_a_warning_about_the_images_is_in_the_report(subject):
    assert "Red and blue look swapped." not in render(subject, "a test")
    data = structs.replace(subject.metrics.data, warning="Red and blue look swapped.")
    warned = replace(subject, metrics=structs.replace(subject.metrics, data=data))
    assert "Red and blue look swapped." in render(warned, "a test")


def test_images_of_one_kind_make_a_report_without_thresholds(
    drawn_model_folder, drawn_dataset, subject, tmp_path, monkeypatch
):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    benign = replace(
        drawn_dataset, table=drawn_dataset.table[drawn_dataset.table["diagnosis"] == "NV"]
    )
    evaluation = cached_evaluation(drawn_model_folder, subject.record, benign, lambda *_: None)
    read = Reader(
        render(replace(subject, metrics=evaluation.metrics, evaluated=evaluation), "a test")
    )
    assert "A threshold can be evaluated only with both malignant and benign images" in read.text
    assert read.row("AUC, malignant or benign")[0] == "not defined"


def test_the_command_writes_a_report_and_runs_the_model_once(
    drawn_model_folder, drawn_dataset, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    save_subset(Subset("some", "drawn", tuple(drawn_dataset.table["image"][:20]), "the first"))
    folder = tmp_path / "split" / "drawn"
    line = ["report", "--model", str(drawn_model_folder), "--data", str(folder), "--subset", "some"]
    first_path = tmp_path / "new" / "first.html"
    second_path = tmp_path / "second.html"
    assert main([*line, "--output", str(first_path)]) == 0
    assert "20 images of" in capsys.readouterr().out
    monkeypatch.setattr("cadlib.model.model.Model.see", None)  # A cached evaluation needs no model.
    assert main([*line, "--output", str(second_path)]) == 0
    first_text = first_path.read_text(encoding="utf-8")
    second_text = second_path.read_text(encoding="utf-8")
    assert Reader(first_text).rows == Reader(second_text).rows
    assert "the subset “some” of drawn" in first_text
    assert str(tmp_path) not in first_text


def test_page_and_command_share_the_cached_evaluation(
    drawn_model_folder, drawn_dataset, tmp_path, monkeypatch
):
    from cadlib.model.split import part_of_split

    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    record = read_record(drawn_model_folder)
    part = part_of_split(drawn_model_folder, record, drawn_dataset, "test")
    line = [
        "report",
        "--model",
        str(drawn_model_folder),
        "--data",
        str(tmp_path / "split" / "drawn"),
    ]
    assert main([*line, "--split", "test", "--output", str(tmp_path / "test.html")]) == 0
    assert (evaluation_folder(record, part) / METRICS_FILE).exists()
    read = Reader((tmp_path / "test.html").read_text(encoding="utf-8"))
    assert "the test split of drawn" in read.text
    assert "These images were not used for training" in read.text
    save_subset(Subset("some", "drawn", tuple(drawn_dataset.table["image"][:20]), "the first"))
    assert (
        main(
            [*line, "--split", "test", "--subset", "some", "--output", str(tmp_path / "both.html")]
        )
        == 0
    )
    read = Reader((tmp_path / "both.html").read_text(encoding="utf-8"))
    assert "the subset “some” within the test split of drawn" in read.text
    assert "5 labelled images" in read.text


def copy_with_bias(folder, twin):
    """Copy a model under the name twin, with a bias towards melanoma; return its folder."""
    shutil.copytree(folder, twin)
    change_record(twin, {"name": "twin", "bias": [8.0, *[0.0] * (len(CODES) - 1)]})
    return twin


def correct_predictions(folder, dataset):
    """Return a boolean array: the images whose top diagnosis is the true one."""
    evaluation = cached_evaluation(folder, read_record(folder), dataset, lambda *_: None)
    return evaluation.probabilities.argmax(axis=1) == evaluation.labels.codes


def test_the_command_compares_two_models_on_the_same_images(
    drawn_model_folder, drawn_dataset, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    twin = copy_with_bias(drawn_model_folder, tmp_path / "twin")
    file = tmp_path / "r.html"
    settings = {"model": drawn_model_folder, "data": tmp_path / "split" / "drawn", "output": file}
    line = ["report", *flags(settings), "--against"]
    assert main([*line, str(twin)]) == 0
    correct = correct_predictions(drawn_model_folder, drawn_dataset)
    twin_correct = correct_predictions(twin, drawn_dataset)
    content = file.read_text(encoding="utf-8")
    read = Reader(content)
    n, only_first, only_second, _, _ = read.row("Top diagnosis correct")
    assert n == "32"
    assert only_first == str((correct & ~twin_correct).sum())
    assert only_second == str((twin_correct & ~correct).sum())
    assert "twin: 16 of these images were used for training" in read.text
    assert "--against twin --output r.html" in read.text
    assert str(tmp_path) not in content
    assert main([*line, str(drawn_model_folder)]) == 2
    assert "another model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--model": "nobody"}, "nobody"),
        ({"--against": "nobody"}, "nobody"),
        ({"--data": "nowhere"}, "there is no folder nowhere"),
        ({"--subset": "nothing"}, "Expected the name of a subset"),
        ({"--output": "."}, "found a folder"),
    ],
)
def test_bad_usage_ends_before_any_work(change, message, synthetic_dataset, tmp_path, capsys):
    flags = {
        "--model": "isic2019",
        "--data": str(synthetic_dataset),
        "--output": str(tmp_path / "r.html"),
        **change,
    }
    assert main(["report", *(word for flag in flags.items() for word in flag)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()
