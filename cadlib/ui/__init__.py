"""Provides what the pages share: `from cadlib import ui`.

    text             sentences about diagnoses and results
    harmless         text from a file, without layout, links and images
    models           the model, loaded once for all sessions
    frame            the frame around each page; a chart with its text
    image_views      images, saliency maps and overlays as the pages show them
    viewer           an image to zoom into, with its saliency map
    evidence         the saliency map of a diagnosis, with its method and its checks
    map_grid         saliency maps of diagnoses and methods side by side
    memory           garbage collections made shorter
    strip            the files of a session as thumbnails
    clinic           the clinic's settings, and what they mean for its patients
    patient          age, sex and site
    neighbours       the similar cases
    trust            faithfulness and stability of a saliency map
    quality          image quality and image type, and the results that are hidden
    session          the images of one session
    pdf_report       the PDF report of a case
    downloads        the buttons to download the results and to remove images
    channels         red and blue swapped by the reader, and back
    held             the bytes that a session holds in memory
    lost             the warning for a reader whose session is gone
    datasets         the data sets that a page can open
    tiles            images in pages of tiles
    gallery          images of a data set as tiles, and one of them large
    imagemap         images as a map to select from
    runs             the training runs that a page can show
    suspects         the data review
    worklist         a list of findings with verdicts
    case_store       the store of cases, opened when a reader needs it
    blind            results hidden until the reader has recorded a reading
    storing          the choice whether a case is stored
    readings         the readings and outcomes of a stored case
    lesion_history   the images of a lesion over its visits
    background       dropped files stored and assessed in the background
    stored_list      the work list of stored images
    work_table       its rows, which keys control
    metrics_source   the model and the images whose results are shown; evaluation in the background
    headline         the first metrics of a model as tiles
    threshold        the referral threshold as a slider
    metric_images    the images of a cell of the confusion matrix, and of each type of error
    subgroups        performance by subgroup
    robustness       performance on degraded images and unseen archives
    model_comparison two models on the same images
    report           the Performance page as one file
    working          the progress of background work

These are the only modules that use Streamlit, and the only ones with Streamlit's caches. torch is
loaded only for a saliency map that needs gradients.
"""

from cadlib.ui.blind import HIDDEN, is_hidden
from cadlib.ui.channels import channel_order
from cadlib.ui.clinic import consequences
from cadlib.ui.datasets import (
    dataset,
    dataset_folders,
    may_name_a_folder,
    synthetic_folder,
    typed_folder,
)
from cadlib.ui.downloads import downloads
from cadlib.ui.evidence import complete_evidence, evidence
from cadlib.ui.frame import INTENDED_USE, chart, page
from cadlib.ui.harmless import card_html, plain, plain_rows
from cadlib.ui.headline import headline
from cadlib.ui.image_views import (
    DRAWN,
    ORIGINAL,
    stability,
)
from cadlib.ui.imagemap import image_map, map_places
from cadlib.ui.lost import about_the_loss
from cadlib.ui.map_grid import MapGrid
from cadlib.ui.memory import spare
from cadlib.ui.metric_images import confusion, errors
from cadlib.ui.metrics_source import choose_metrics
from cadlib.ui.model_comparison import compare_models
from cadlib.ui.models import load_ahead, model, model_card, model_metrics
from cadlib.ui.neighbours import similar
from cadlib.ui.patient import patient
from cadlib.ui.quality import about_the_kind, quality, withheld
from cadlib.ui.report import report
from cadlib.ui.robustness import robustness, unseen_archives
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
    take,
    upload_key,
)
from cadlib.ui.stored_list import stored_list
from cadlib.ui.storing import first_reading, storing
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
    threshold_intervals,
)
from cadlib.ui.threshold import threshold
from cadlib.ui.trust import about_the_map, trust_tile

__all__ = [
    "DRAWN",
    "HIDDEN",
    "INTENDED_USE",
    "ORIGINAL",
    "Case",
    "MapGrid",
    "about_the_kind",
    "about_the_loss",
    "about_the_map",
    "about_the_run",
    "about_the_set",
    "about_the_threshold",
    "about_the_turns",
    "accept_paste",
    "card_html",
    "cases",
    "cases_csv",
    "cases_json",
    "channel_order",
    "chart",
    "choose",
    "choose_metrics",
    "chosen_case",
    "compare_models",
    "complete_evidence",
    "confusion",
    "consequences",
    "dataset",
    "dataset_folders",
    "downloads",
    "errors",
    "evidence",
    "first_reading",
    "headline",
    "image_map",
    "is_hidden",
    "load_ahead",
    "map_places",
    "mark",
    "may_name_a_folder",
    "model",
    "model_card",
    "model_metrics",
    "named",
    "next_synthetic",
    "page",
    "patient",
    "percent",
    "plain",
    "plain_rows",
    "quality",
    "report",
    "robustness",
    "run_folders",
    "run_reading",
    "run_row",
    "setting",
    "similar",
    "spare",
    "stability",
    "stored_list",
    "storing",
    "strip",
    "subgroups",
    "suspects",
    "synthetic_folder",
    "take",
    "threshold",
    "threshold_intervals",
    "trust_tile",
    "typed_folder",
    "unseen_archives",
    "upload_key",
    "withheld",
]
