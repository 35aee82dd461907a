"""Lists stored images by urgency, and takes many files in at once."""

from cadlib import ui

record = ui.page("Work list")
ui.stored_list(record)
