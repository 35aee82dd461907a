"""Completes the commands that messages recommend.

A hint has every option that its command requires. So a reader can copy it and replace only the
placeholders in capitals.
"""

import shlex

MODEL = "NAME"
"""Placeholder for the name of a model under models/."""
FOLDER = "DIR"
"""Placeholder for a folder."""


def evaluate_into(model: str = MODEL) -> str:
    """Return the command that evaluates a model on its validation split and saves the results."""
    options = f"--data {FOLDER} --split validation --into-model --output {FOLDER}"
    return f"python -m cadlib evaluate --model {shlex.quote(model)} {options}"


def evaluate_subset(subset: str) -> str:
    """Return the command that evaluates a model on the images of a saved subset."""
    options = f"--subset {shlex.quote(subset)} --output {FOLDER}"
    return f"python -m cadlib evaluate --model {MODEL} --data {FOLDER} {options}"


def train_subset(subset: str) -> str:
    """Return the command that trains a model on the images of a saved subset."""
    return f"python -m cadlib train --data {FOLDER} --name {MODEL} --subset {shlex.quote(subset)}"


def train() -> str:
    """Return the command that trains a model."""
    return f"python -m cadlib train --data {FOLDER} --name {MODEL}"


def audit_into(model: str = MODEL) -> str:
    """Return the command that audits the splits of a model for leaks and saves the result in it."""
    return f"python -m cadlib audit --model {shlex.quote(model)} --data {FOLDER} --into-model"


def index(model: str = MODEL) -> str:
    """Return the command that fits similar cases and the novelty detector of a model."""
    return f"python -m cadlib index --model {shlex.quote(model)} --data {FOLDER}"


def robustness_into(model: str = MODEL) -> str:
    """Return the command that measures degraded and rotated images and saves the results."""
    return f"python -m cadlib robustness --model {shlex.quote(model)} --data {FOLDER} --into-model"


def saliency_into(model: str = MODEL) -> str:
    """Return the command that measures a model's saliency maps and saves the results in it."""
    options = f"--data {FOLDER} --images 300 --into-model"
    return f"python -m cadlib saliency --model {shlex.quote(model)} {options}"


def across_into(model: str = MODEL) -> str:
    """Return the command that measures an excluded archive and saves the results in a model."""
    return f"python -m cadlib across --data {FOLDER} --into-model {shlex.quote(model)}"
