"""Shows which part of an image supports a diagnosis, and measures how far to trust that."""
