"""Draws the parts of the Data set page: `from cadlib.ui import browse`.

This package is separate from `ui` because it loads pandas.

facets     the filters, each choice with its number of images
gallery    the matching images as tiles
labels     the number of matching images by label
mapped     the matching images as a map
selection  a selection saved as a subset
catalogues the catalogue of a data set, built once for all sessions
"""

from cadlib.ui.browse.catalogues import ask_about_all, catalogue_of
from cadlib.ui.browse.facets import facets, forget_facets, query_words
from cadlib.ui.browse.gallery import matching_images
from cadlib.ui.browse.labels import label_counts
from cadlib.ui.browse.mapped import mapped
from cadlib.ui.browse.selection import chosen_subset, save_selection

__all__ = [
    "ask_about_all",
    "catalogue_of",
    "chosen_subset",
    "facets",
    "forget_facets",
    "label_counts",
    "mapped",
    "matching_images",
    "query_words",
    "save_selection",
]
