"""Measures a model on damaged and turned images."""

import argparse

from cadlib.cli.split_sample import Measure, add_flags, measure_sample
from cadlib.metrics.tables import robustness_table


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    add_flags(command, "robustness")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    return measure_sample(options, "robustness", _measure, robustness_table)


def _measure() -> Measure:
    from cadlib.evaluation.robustness import measure

    return measure
