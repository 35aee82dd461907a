"""Settings of a network that trains in seconds, and settings as words of a command line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

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


_GRAPHS: dict[tuple[object, ...], bytes] = {}


@contextmanager
def graphs_exported_once() -> Iterator[None]:
    """Export one graph for all networks that differ in their weights only.

    A graph has no weights. `to_onnx` still compares its answers with those of each network.
    """
    # Imported late, with torch: most tests need none.
    from cadlib.network import onnx_export

    export = onnx_export._graph_of

    def graph_of(seeing: Any, images: Any) -> bytes:
        shapes = tuple((name, tensor.shape) for name, tensor in seeing.state_dict().items())
        tapped = tuple(name for name, part in seeing.named_modules() if part._forward_hooks)
        key = (repr(seeing), shapes, tapped, images.shape)
        if key not in _GRAPHS:
            _GRAPHS[key] = export(seeing, images)
        return _GRAPHS[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "_graph_of", graph_of)
        yield
