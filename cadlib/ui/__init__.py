"""What the pages share, and all they see of it: `from cadlib import ui`.

    text       how a diagnosis is written
    harmless   text from a file, without layout, links and images
    models     the model, loaded once for all sessions
    frame      what stands around each page; a chart with its text
    pictures   a picture as the pages show it, and the evidence in it
    viewer     a picture to look into, with the evidence over it
    evidence   which evidence that is, and whether to believe it
    garbage    what need not be looked through after each run of a page
    strip      the files of a session as thumbnails
    clinic     what this clinic has chosen, and what the threshold means for its patients
    patient    age, sex and site
    neighbours the similar training cases
    trust      whether a heatmap may be read
    quality    whether a picture can be read and is known, and what is withheld where not
    session    the pictures of one session
    channels   red and blue swapped by the reader, and back
    held       the count of what a session keeps in memory
    lost       what a reader is told whose session is gone
    datasets   the data sets a page can open
    tiles      pictures in pages of tiles
    gallery    images of a data set as tiles, and one of them large
    imagemap   images as a map to choose from
    runs       the runs of training a page can show
    suspects   what of a data set a person should look at again
    worklist   a list of them, worked through
    figures_of which model on which images a page speaks of; evaluated in the background
    threshold  the operating point as a slider
    images_behind the images of a cell of the confusion matrix, and of each kind of error
    subgroups  for whom the model is how good
    versus     two models on the same images
    report     all of that as one file

The only modules that know Streamlit, and the only home of caches. torch is not loaded but for a heatmap that needs
gradients.
"""

from cadlib.ui.channels import channel_order
from cadlib.ui.clinic import consequences
from cadlib.ui.datasets import (
    assess_file,
    dataset,
    dataset_folders,
    may_name_a_folder,
    synthetic_folder,
    typed_folder,
)
from cadlib.ui.evidence import evidence
from cadlib.ui.frame import INTENDED_USE, chart, page
from cadlib.ui.harmless import card_html, plain, plain_rows
from cadlib.ui.imagemap import image_map, map_places
from cadlib.ui.lost import about_the_loss
from cadlib.ui.memory import spare
from cadlib.ui.metric_images import confusion, errors
from cadlib.ui.metrics_source import choose_figures
from cadlib.ui.model_comparison import versus
from cadlib.ui.models import load_ahead, model, model_card, model_metrics
from cadlib.ui.neighbours import similar
from cadlib.ui.patient import patient
from cadlib.ui.pictures import (
    DRAWN,
    OPACITY,
    ORIGINAL,
    heatmap,
    overlay,
    photograph_of,
    said,
    side_by_side,
    square,
    stability,
)
from cadlib.ui.quality import about_the_kind, quality, withheld
from cadlib.ui.report import report
from cadlib.ui.runs import about_the_run, run_folders, run_reading, run_row, setting
from cadlib.ui.session import (
    Case,
    accept_paste,
    cases,
    cases_csv,
    cases_json,
    choose,
    chosen_case,
    next_synthetic,
    remove,
    take,
    upload_key,
)
from cadlib.ui.strip import strip
from cadlib.ui.subgroups import subgroups
from cadlib.ui.suspects import suspects
from cadlib.ui.text import (
    about_the_set,
    about_the_threshold,
    about_the_turns,
    mark,
    named,
    percent,
    sign,
)
from cadlib.ui.threshold import threshold
from cadlib.ui.trust import about_the_map, trust, trust_line, trust_tile

__all__ = [
    "DRAWN",
    "INTENDED_USE",
    "OPACITY",
    "ORIGINAL",
    "Case",
    "about_the_kind",
    "about_the_loss",
    "about_the_map",
    "about_the_run",
    "about_the_set",
    "about_the_threshold",
    "about_the_turns",
    "accept_paste",
    "assess_file",
    "card_html",
    "cases",
    "cases_csv",
    "cases_json",
    "channel_order",
    "chart",
    "choose",
    "choose_figures",
    "chosen_case",
    "confusion",
    "consequences",
    "dataset",
    "dataset_folders",
    "errors",
    "evidence",
    "heatmap",
    "image_map",
    "load_ahead",
    "map_places",
    "mark",
    "may_name_a_folder",
    "model",
    "model_card",
    "model_metrics",
    "named",
    "next_synthetic",
    "overlay",
    "page",
    "patient",
    "percent",
    "photograph_of",
    "plain",
    "plain_rows",
    "quality",
    "remove",
    "report",
    "run_folders",
    "run_reading",
    "run_row",
    "said",
    "setting",
    "side_by_side",
    "sign",
    "similar",
    "spare",
    "square",
    "stability",
    "strip",
    "subgroups",
    "suspects",
    "synthetic_folder",
    "take",
    "threshold",
    "trust",
    "trust_line",
    "trust_tile",
    "typed_folder",
    "upload_key",
    "versus",
    "withheld",
]
