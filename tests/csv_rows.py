"""Reads rows of the CSV of results by column."""

from cadlib.assessment import CSV_COLUMNS, Assessment, csv_row


def row_of(assessment: Assessment | str) -> dict[str, str]:
    """Return the row of an assessment, or of the reason why there is none, by column."""
    return dict(zip(CSV_COLUMNS, csv_row("a.png", assessment), strict=True))
