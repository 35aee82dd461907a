"""Measure what damaged and turned pictures cost a model."""

import argparse

from cadlib.commands.sampled import Measure, add_flags, measure_sample
from cadlib.tables import robustness_table


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    add_flags(command, "robustness")


def run(options: argparse.Namespace) -> int:
    """Carry the command out and return its exit code."""
    return measure_sample(options, "robustness", _measure, robustness_table)


def _measure() -> Measure:
    from cadlib.robustness import measure

    return measure
