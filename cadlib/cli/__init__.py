"""Defines the commands of `cadlib`, one in each file.

A command is a frozen dataclass: its fields are its options, and `run` does the work. The table here
is all that `cadlib --help` needs. The file of a command is imported when the command is used, and
imports torch, ONNX Runtime and pandas only when it runs.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A command in the help: its name, a line on what it does, and where it is defined.

    `purpose` is the heading in `cadlib --help`. A command with `actions` has subcommands instead of
    a `target`, which is "module:class".
    """

    name: str
    purpose: str
    summary: str
    target: str = ""
    actions: tuple["Entry", ...] = ()


_MODEL_ACTIONS = (
    Entry(
        "verify",
        "Actions",
        "List every file, field and golden result that changed since the model was written.",
        "cadlib.cli.model:Verify",
    ),
    Entry(
        "migrate",
        "Actions",
        "Write a folder of an earlier version in the current format, with the same results.",
        "cadlib.cli.model:Migrate",
    ),
)

_CASES_ACTIONS = (
    Entry(
        "verify",
        "Actions",
        "Prove that no case was changed past the audit log, or name the first bad entry.",
        "cadlib.cli.cases:VerifyCases",
    ),
    Entry(
        "backup",
        "Actions",
        "Write all cases and images into one file.",
        "cadlib.cli.cases:BackUp",
    ),
    Entry(
        "restore",
        "Actions",
        "Restore a backup into an empty store.",
        "cadlib.cli.cases:Restore",
    ),
    Entry(
        "readers",
        "Actions",
        "Compare readers before and after the model's result, where the outcome is known.",
        "cadlib.cli.cases:Readers",
    ),
    Entry(
        "erase",
        "Actions",
        "Delete a patient with all rows and images.",
        "cadlib.cli.cases:Erase",
    ),
    Entry(
        "prune-log",
        "Actions",
        "Remove old entries of the audit log; the cases stay.",
        "cadlib.cli.cases:PruneLog",
    ),
)

COMMANDS = (
    Entry("app", "Diagnose", "Start the app in a browser.", "cadlib.cli.app:App"),
    Entry("predict", "Diagnose", "Diagnose images.", "cadlib.cli.predict:Predict"),
    Entry(
        "cases",
        "Diagnose",
        "Verify, back up, restore or erase stored cases; compare their readers.",
        actions=_CASES_ACTIONS,
    ),
    Entry(
        "build",
        "Train",
        "Build a model in all steps, from training to its card; continue where it was stopped.",
        "cadlib.cli.build:Build",
    ),
    Entry(
        "train",
        "Train",
        "Train a model on images with labels, and write its folder.",
        "cadlib.cli.train:Train",
    ),
    Entry(
        "pack",
        "Train",
        "Pack one network for each fold of a cross-validation as one model.",
        "cadlib.cli.pack:Pack",
    ),
    Entry(
        "calibrate",
        "Train",
        "Refit calibration, thresholds and prediction sets of a model.",
        "cadlib.cli.calibrate:Calibrate",
    ),
    Entry(
        "index",
        "Train",
        "Fit a model's similar cases and novelty detector.",
        "cadlib.cli.index:Index",
    ),
    Entry(
        "evaluate",
        "Evaluate",
        "Compare a model, or its earlier predictions, with labels.",
        "cadlib.cli.evaluate:Evaluate",
    ),
    Entry(
        "report",
        "Evaluate",
        "Write all metrics of a model on a data set as one HTML file.",
        "cadlib.cli.report:Report",
    ),
    Entry(
        "audit",
        "Evaluate",
        "Search a model's split for leaks, and compare its golden results.",
        "cadlib.cli.audit:Audit",
    ),
    Entry(
        "robustness",
        "Evaluate",
        "Measure a model on degraded and rotated images.",
        "cadlib.cli.robustness:Robustness",
    ),
    Entry(
        "saliency",
        "Evaluate",
        "Measure how reliable a model's saliency maps are, method by method.",
        "cadlib.cli.saliency:Saliency",
    ),
    Entry(
        "across",
        "Evaluate",
        "Measure what training loses on an archive it has not seen.",
        "cadlib.cli.across:Across",
    ),
    Entry(
        "model",
        "Evaluate",
        "Verify that a model is unchanged, or migrate its folder.",
        actions=_MODEL_ACTIONS,
    ),
    Entry(
        "download",
        "Data",
        "Download ISIC 2019, or a sample of the ISIC Archive.",
        "cadlib.cli.download:Download",
    ),
    Entry(
        "suspects",
        "Data",
        "List doubtful labels, duplicates, contradictions and unreadable files.",
        "cadlib.cli.suspects:Suspects",
    ),
)
"""All commands, in the order of `--help`."""
