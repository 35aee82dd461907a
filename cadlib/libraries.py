"""Keeps libraries from reporting about their user and from littering.

`import cadlib` imports it before anything else, so every library that cadlib loads finds these
settings.
"""

import os
from pathlib import Path

from platformdirs import user_cache_path

_NO_STATISTICS = {
    # ONNX Runtime writes a device id below the home folder and sends events. Neither DO_NOT_TRACK
    # nor its own API call prevents the files: it reads this variable when it is imported.
    "ORT_DISABLE_TELEMETRY": "1",
    # Training asks the Hugging Face hub for a backbone that no package ships. The request names
    # no machine then.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # albumentations is no requirement here, but where it is installed it looks for its latest
    # version on a server.
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "DO_NOT_TRACK": "1",
}
_FOLDERS = {
    "MPLCONFIGDIR": "matplotlib",  # its list of fonts; grad-cam imports matplotlib
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",  # torch makes this folder even where it compiles nothing
}
"""Where libraries keep files -> the name of that folder below the folder of caches."""


def silence() -> None:
    """Switch off the statistics of libraries, whatever the caller's environment says of them."""
    os.environ.update(_NO_STATISTICS)


def keep_together() -> None:
    """Let libraries keep their files below our own folder of caches, unless the caller names another place."""
    # The rule of `cadlib.files.cache.cache_dir`, which is not imported: it needs numpy, and `import
    # cadlib` is to be quick.
    cache = Path(os.environ.get("CADLIB_CACHE") or user_cache_path("cadlib"))
    if not _writable(cache):
        return  # Each of these libraries then falls back to a temporary folder by itself.
    for variable, name in _FOLDERS.items():
        os.environ.setdefault(variable, str(cache / name))


def _writable(folder: Path) -> bool:
    """Tell whether a folder, or the nearest one above it that exists, can be written to."""
    nearest = next((place for place in (folder, *folder.parents) if place.exists()), None)
    return nearest is not None and os.access(nearest, os.W_OK | os.X_OK)


silence()
keep_together()
