"""Shows which part of an image supports a diagnosis."""
