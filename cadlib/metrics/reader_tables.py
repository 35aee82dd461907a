"""Writes the results of readers as Markdown."""

import math
from collections.abc import Callable, Mapping

from cadlib.metrics.reader_results import DECIDERS, METRICS, ReaderResults, Result
from cadlib.metrics.tables import change_text, markdown_table, metric_text

NONE = (
    "No reading has a first diagnosis, a diagnosis after the result and a known outcome. Record "
    "them on the Diagnose page, with Blind first switched on."
)


def reader_tables(results: ReaderResults) -> str:
    """Return three tables: metrics, differences, and moves.

    Brackets have 95 % intervals over patients.
    """
    if not results.n_readings:
        return NONE
    heading = (
        f"{results.n_readings:,} readings by {results.n_readers:,} readers, "
        f"{results.n_patients:,} patients. Brackets: 95 % CI, resampled by patient."
    )
    # The first column has the names of the rows.
    head = ("", *METRICS)
    metrics = [_row(decider, results.metrics[decider]) for decider in DECIDERS]
    differences = []
    for (reference, decider), values in results.differences.items():
        differences.append(_row(f"{decider} minus {reference}", values, change_text))
    moves = results.moves
    moved = [
        (
            "correct to wrong",
            f"{moves.n_to_wrong:,}",
            _text(moves.to_wrong),
            f"{moves.to_wrong.n:,}",
        ),
        (
            "wrong to correct",
            f"{moves.n_to_correct:,}",
            _text(moves.to_correct),
            f"{moves.to_correct.n:,}",
        ),
    ]
    parts = [
        heading,
        markdown_table(head, metrics),
        markdown_table(head, differences),
        markdown_table(("changed by the result", "readings", "share", "of"), moved),
    ]
    return "\n\n".join(parts)


def _row(
    name: str,
    values: Mapping[str, Result],
    text: Callable[[float | None, tuple[float, float] | None], str] = metric_text,
) -> tuple[str, ...]:
    """Return a row of a table; `text` writes a value with its interval."""
    cells = [text(_defined(values[metric]), values[metric].interval) for metric in METRICS]
    return (name, *cells)


def _text(result: Result) -> str:
    return metric_text(_defined(result), result.interval)


def _defined(result: Result) -> float | None:
    """Return a value, None where it is not defined."""
    return None if math.isnan(result.value) else result.value
