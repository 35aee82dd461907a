"""Computes metrics from arrays of labels and probabilities; nothing here reads a file."""
