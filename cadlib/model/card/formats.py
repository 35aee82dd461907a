"""Formats numbers and tables for the templates of the model card."""

from cadlib.metrics import operating_point
from cadlib.metrics.conditions_schema import AcrossArchives, MapMetrics
from cadlib.metrics.cross_validation import METRICS, CrossValidation
from cadlib.metrics.network_spread_table import spread_rows
from cadlib.metrics.summary_schema import SpreadMetrics
from cadlib.metrics.tables import (
    Measured,
    across_rows,
    change_text,
    markdown_table,
    metric_text,
    saliency_rows,
    short_text,
    value_of,
)
from cadlib.model.metadata.changes import Difference


def count(number: int) -> str:
    """Return a number of images or lesions: "3,623"."""
    return f"{number:,}"


def two_decimals(value: float) -> str:
    """Return a number with two decimals: "0.57"."""
    return f"{value:.2f}"


def percent(share: float) -> str:
    """Return a share of 0 to 1 with one decimal: "99.5 %"."""
    percentage = 100 * share
    return f"{percentage:.1f} %"


def whole_percent(share: float) -> str:
    """Return a share of 0 to 1 without decimals: "90 %"."""
    percentage = 100 * share
    return f"{percentage:.0f} %"


def minutes(seconds: float) -> str:
    """Return a duration in whole minutes: "83"."""
    whole_minutes = round(seconds / 60)
    return str(whole_minutes)


def signed(value: float) -> str:
    """Return a difference for a sentence, with its sign and two decimals: "−0.13"."""
    text = f"{value:+.2f}"
    return text.replace("-", "−")


def change(difference: Difference) -> str:
    """Return a change with its interval: "+0.037 (+0.011 to +0.065)"."""
    before = difference.before
    after = difference.after
    low = difference.low
    high = difference.high
    if before is None or after is None:
        return "not defined"
    if low is None or high is None:
        return "not defined"
    value = after - before
    interval = (low, high)
    return change_text(value, interval)


def two_digits(value: float | None) -> str:
    """Return a value for a sentence: "0.62", "<0.01", "not defined"."""
    if value is None:
        return "not defined"
    return operating_point.two_digits(value)


def short(part: Measured, name: str, key: str | None = None) -> str:
    """Return a metric for a sentence: "0.70 (95 % CI 0.67 to 0.72)"."""
    value, interval = value_of(part, name, key)
    if value is None:
        return "not defined"
    return short_text(value, interval)


def capital(text: str) -> str:
    """Return a text with its first letter in upper case, and the rest as it is."""
    # str.capitalize would also change the rest to lower case.
    first = text[0].upper()
    return first + text[1:]


def across_table(across: AcrossArchives) -> str:
    """Return the loss on archives left out of training as a table in Markdown."""
    head, *rows = across_rows(across)
    return markdown_table(head, rows)


def saliency_table(maps: MapMetrics) -> str:
    """Return the metrics of the saliency maps as a table in Markdown."""
    head, *rows = saliency_rows(maps)
    return markdown_table(head, rows)


def spread_table(measured: SpreadMetrics) -> str:
    """Return how well the spread of the networks predicts errors as a table in Markdown."""
    head, *rows = spread_rows(measured)
    return markdown_table(head, rows)


def cross_validation_table(by_fold: CrossValidation) -> str:
    """Return the metrics of each fold, their mean and standard deviation as a table in Markdown."""
    head = ("fold", "network", "images", *(name.replace("_", " ") for name in METRICS))
    rows = []
    for fold in by_fold.folds:
        values = [metric_text(getattr(fold, name)) for name in METRICS]
        rows.append((str(fold.fold), fold.backbone, count(fold.n), *values))
    summaries = []
    for name in METRICS:
        mean = metric_text(by_fold.mean(name))
        deviation = metric_text(by_fold.deviation(name))
        summaries.append(f"{mean} ({deviation})")
    rows.append(("mean (standard deviation)", "", "", *summaries))
    return markdown_table(head, rows)
