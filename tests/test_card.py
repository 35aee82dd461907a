import json

from cadlib.card import render
from cadlib.record import CARD_FILE, METRICS_FILE, find_model, read_record


def shipped():
    folder = find_model("isic2019")
    return folder, read_record(folder), json.loads((folder / METRICS_FILE).read_text())


def test_the_shipped_card_is_what_its_figures_give():
    folder, record, figures = shipped()
    assert (folder / CARD_FILE).read_text(encoding="utf-8") == render(record, figures)


def test_a_changed_figure_changes_the_card():
    _, record, figures = shipped()
    before = render(record, figures)
    figures["balanced_accuracy"] = -1.0
    after = render(record, figures)
    assert "-1.000" not in before
    assert "-1.000" in after


def test_an_undefined_figure_is_said_to_be_so():
    _, record, figures = shipped()
    figures["auc"]["DF"] = None
    row = next(line for line in render(record, figures).splitlines() if line.startswith("| Dermatofibroma"))
    assert row.endswith("| not defined |")


def test_every_limit_and_the_licence_stand_in_the_card():
    _, record, figures = shipped()
    text = render(record, figures)
    for stated in (*record.known_limits, record.data_licence, record.intended_use):
        assert stated in text
