"""Shortens garbage collections."""

import gc


def spare() -> None:
    """Collect garbage now, and exclude all other objects from later collections.

    Streamlit collects after each run of a page, and serves nobody meanwhile: with the objects of
    all imports that takes 70 ms, on the Data set page 50 ms more. Call it after loading objects
    that stay. The next call includes the excluded objects again.
    """
    # What was excluded before may be garbage by now.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
