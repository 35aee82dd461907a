"""What the Dataset page is made of: `from cadlib.ui import browse`. Apart from `ui`, for it loads pandas.

facets     what may be chosen, with counts
gallery    the images found, as tiles
labels     how many of the images found have which label
mapped     the images found, as a map
selection  a selection kept under a name
catalogues the catalogue of a data set, made once for all sessions
"""

from cadlib.ui.browse.catalogues import ask_about_all, catalogue_of
from cadlib.ui.browse.facets import facets, forget_facets, said_of
from cadlib.ui.browse.gallery import found
from cadlib.ui.browse.labels import label_counts
from cadlib.ui.browse.mapped import mapped
from cadlib.ui.browse.selection import chosen_subset, keep

__all__ = [
    "ask_about_all",
    "catalogue_of",
    "chosen_subset",
    "facets",
    "forget_facets",
    "found",
    "keep",
    "label_counts",
    "mapped",
    "said_of",
]
