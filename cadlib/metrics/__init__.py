"""Computes metrics from arrays of labels and probabilities."""
