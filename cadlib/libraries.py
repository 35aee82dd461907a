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
    # matplotlib's list of fonts; grad-cam imports matplotlib.
    "MPLCONFIGDIR": "matplotlib",
    # torch makes this folder even where it compiles nothing.
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
}
"""Where libraries keep files -> the name of that folder below the folder of caches."""


def silence() -> None:
    """Switch off the statistics of libraries, in any environment of the caller."""
    os.environ.update(_NO_STATISTICS)


def keep_together() -> None:
    """Let libraries keep their files below our own cache folder.

    The caller's own settings of these folders stay.
    """
    # The rule of `cadlib.files.cache.cache_dir`, which is not imported, because `import cadlib` is
    # to be quick.
    cache = Path(os.environ.get("CADLIB_CACHE") or user_cache_path("cadlib"))
    # Without a folder each of these libraries uses a temporary folder by itself.
    if not _writable(cache):
        return
    for variable, name in _FOLDERS.items():
        os.environ.setdefault(variable, str(cache / name))


def _writable(folder: Path) -> bool:
    """Return whether a folder, or its nearest existing parent, can be written to."""
    for place in (folder, *folder.parents):
        if place.exists():
            return os.access(place, os.W_OK | os.X_OK)
    return False


silence()
keep_together()
