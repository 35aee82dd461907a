"""Formats numbers and tables for the templates of the model card."""

from typing import Any

from cadlib.metrics.tables import across_rows, change_text, markdown_table, saliency_rows
from cadlib.model.metadata.trial import Difference


def count(number: int) -> str:
    """Return a number of images or lesions: "3,623"."""
    return f"{number:,}"


def two_decimals(value: float) -> str:
    """Return a number with two decimals: "0.57"."""
    return f"{value:.2f}"


def percent(share: float) -> str:
    """Return a share of 0 to 1 with one decimal: "99.5 %"."""
    return f"{100 * share:.1f} %"


def whole_percent(share: float) -> str:
    """Return a share of 0 to 1 without decimals: "90 %"."""
    return f"{100 * share:.0f} %"


def minutes(seconds: float) -> str:
    """Return a duration in whole minutes: "83"."""
    return f"{seconds / 60:.0f}"


def signed(value: float) -> str:
    """Return a difference with its sign: "-0.134"."""
    return change_text(value)


def change(difference: Difference) -> str:
    """Return a change with its interval: "+0.037 (+0.011 to +0.065)"."""
    before = difference.before
    after = difference.after
    low = difference.low
    high = difference.high
    if before is None or after is None or low is None or high is None:
        return "not defined"
    return change_text(after - before, (low, high))


def rate(flips: dict[str, Any], key: str) -> str:
    """Return how often the top diagnosis changes, with its interval: "17.4 % (14.2 to 20.8)"."""
    value = flips["rate"][key]
    interval = flips["intervals"]["rate"][key]
    if value is None:
        return "a share that is not defined"
    if not interval:
        return percent(value)
    low, high = interval
    return f"{percent(value)} ({100 * low:.1f} to {100 * high:.1f})"


def capital(text: str) -> str:
    """Return a text with its first letter in upper case, and the rest as it is."""
    return f"{text[0].upper()}{text[1:]}"


def across_table(across: dict[str, Any]) -> str:
    """Return the loss on archives left out of training as a table in Markdown."""
    head, *rows = across_rows(across)
    return markdown_table(head, rows)


def saliency_table(maps: dict[str, Any]) -> str:
    """Return the metrics of the saliency maps as a table in Markdown."""
    head, *rows = saliency_rows(maps)
    return markdown_table(head, rows)
