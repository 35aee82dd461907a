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
    command = _command("evaluate", model)
    options = f"--data {FOLDER} --split validation --into-model --output {FOLDER}"
    return f"{command} {options}"


def evaluate_test_into(model: str = MODEL) -> str:
    """Return the command that evaluates a model on its test split and saves the results."""
    command = _command("evaluate", model)
    return f"{command} --data {FOLDER} --split test --into-model --output {FOLDER}"


def evaluate_subset(subset: str) -> str:
    """Return the command that evaluates a model on the images of a saved subset."""
    # The name of a subset may have blanks.
    name = shlex.quote(subset)
    command = _command("evaluate", MODEL)
    options = f"--data {FOLDER} --subset {name} --output {FOLDER}"
    return f"{command} {options}"


def train_subset(subset: str) -> str:
    """Return the command that trains a model on the images of a saved subset."""
    command = train()
    name = shlex.quote(subset)
    return f"{command} --subset {name}"


def train() -> str:
    """Return the command that trains a model."""
    return f"python -m cadlib train --data {FOLDER} --name {MODEL}"


def audit_into(model: str = MODEL) -> str:
    """Return the command that audits the splits of a model for leaks and saves the result in it."""
    return f"{_command('audit', model)} --data {FOLDER} --into-model"


def index(model: str = MODEL) -> str:
    """Return the command that fits similar cases and the novelty detector of a model."""
    return f"{_command('index', model)} --data {FOLDER}"


def robustness_into(model: str = MODEL) -> str:
    """Return the command that measures degraded and rotated images and saves the results."""
    return f"{_command('robustness', model)} --data {FOLDER} --into-model"


def saliency_into(model: str = MODEL) -> str:
    """Return the command that measures a model's saliency maps and saves the results in it."""
    return f"{_command('saliency', model)} --data {FOLDER} --images 300 --into-model"


def across_into(model: str = MODEL) -> str:
    """Return the command that measures an excluded archive and saves the results in a model."""
    name = shlex.quote(model)
    # This command trains networks of its own, and takes no --model.
    return f"python -m cadlib across --data {FOLDER} --into-model {name}"


def _command(command: str, model: str) -> str:
    # The name of a model may have blanks.
    name = shlex.quote(model)
    return f"python -m cadlib {command} --model {name}"
