"""Measures whether a model's heatmaps are reliable, method by method."""

import argparse

from cadlib.cli.split_sample import Measure, add_flags, measure_sample
from cadlib.metrics.tables import saliency_table


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    add_flags(command, "saliency")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    return measure_sample(options, "saliency", _measure, saliency_table)


def _measure() -> Measure:
    from cadlib.evaluation.saliency_benchmark import measure

    return measure
