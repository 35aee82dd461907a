"""Names the ways in which one lesion can have two diagnoses."""

CONTRADICTIONS = ("one lesion id", "identical files", "near-duplicates")
"""What makes images one, so that two diagnoses of them contradict each other."""
