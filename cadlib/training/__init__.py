"""Trains a network and packs it as a model folder."""
