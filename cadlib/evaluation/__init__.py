"""Runs a model over a labelled data set and measures its predictions."""
