"""Names the ways in which one lesion can have two diagnoses."""

CONTRADICTIONS = ("one lesion id", "identical files", "near-duplicates")
"""Relations between images of one lesion, whose diagnoses must not differ."""
