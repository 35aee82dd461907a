"""Measure whether a model's heatmaps are worth looking at, method by method."""

import argparse
from collections.abc import Callable

from cadlib.commands.sampled import Measured, add_flags, measure_sample


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    add_flags(command, "saliency")


def run(options: argparse.Namespace) -> int:
    """Carry the command out and return its exit code."""
    return measure_sample(options, "saliency", _measure)


def _measure() -> Callable[..., Measured]:
    from cadlib.sanity import measure

    return measure
