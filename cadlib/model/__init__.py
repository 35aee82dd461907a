"""Loads a model folder and predicts with it, without torch."""
