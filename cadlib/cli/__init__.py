"""Defines the commands of `python -m cadlib`, one in each file.

`add` gives a parser the flags of a command, `run` runs it. No file imports torch before its command
needs it, so that help and bad usage do not wait for it.
"""

from types import ModuleType

from cadlib.cli import (
    across,
    app,
    audit,
    calibrate,
    download,
    evaluate,
    index,
    model,
    predict,
    report,
    robustness,
    saliency,
    suspects,
    train,
)

COMMANDS: dict[str, tuple[ModuleType, str]] = {
    "app": (app, "start the app in a browser"),
    "predict": (predict, "diagnose images"),
    "evaluate": (evaluate, "compare a model with the labels of a data set"),
    "report": (report, "write all that is measured of a model on a data set as one HTML file"),
    "robustness": (robustness, "measure what damaged and turned pictures cost a model"),
    "saliency": (saliency, "measure whether a model's heatmaps may be read, method by method"),
    "train": (train, "train a model on images with labels"),
    "calibrate": (
        calibrate,
        "refit a model's calibration and thresholds on its validation images",
    ),
    "index": (index, "fit what rests on the features of a model's training images"),
    "model": (model, "verify that a model is unchanged, or bring its folder up to date"),
    "audit": (audit, "look for leaks in a model's split, and for drift of its answers"),
    "suspects": (suspects, "list doubted labels, pictures twice, contradictions and broken files"),
    "across": (across, "what a model loses on an archive it was not trained on"),
    "download": (download, "fetch the data set of ISIC 2019, or a small sample"),
}
"""Name -> module and help text, in the order of `--help`."""
