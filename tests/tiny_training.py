"""Settings of a network that trains in seconds, and settings as words of a command line."""

from collections.abc import Mapping

TINY = {
    "backbone": "test_efficientnet",
    "pretrained": False,
    "input_px": 64,
    "first_px": 32,
    "last_px": 64,
    "epochs": 2,
    "batch_size": 16,
    "validation": 0.2,
    "test": 0.2,
    "workers": 0,
    "accelerator": "cpu",
}


def flags(options: Mapping[str, object]) -> list[str]:
    """Return options as words of a command line, for example --batch-size 16 or --no-pretrained."""
    words = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        words += [f"--no-{flag}"] if value is False else [f"--{flag}", str(value)]
    return words
