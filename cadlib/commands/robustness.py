"""Measure what damaged and turned pictures cost a model."""

import argparse
from collections.abc import Callable

from cadlib.commands.sampled import Measured, add_flags, measure_sample


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    add_flags(command, "robustness")


def run(options: argparse.Namespace) -> int:
    """Carry the command out and return its exit code."""
    return measure_sample(options, "robustness", _measure)


def _measure() -> Callable[..., Measured]:
    from cadlib.robustness import measure

    return measure
