"""Renders the model card from model.json and metrics.json.

The text of the card is in the templates beside this file; `card.md.jinja` lists its sections in
their order. They follow Mitchell et al., Model Cards for Model Reporting (FAT* 2019).
"""

from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from cadlib import command_hints
from cadlib.metrics.network_spread_table import MEASURES, PEERS, borderline_text, images_text
from cadlib.metrics.operating_point import both_names, shown_name
from cadlib.metrics.summary import DRAWS, ECE_NOTE
from cadlib.metrics.tables import metric_of, metric_text
from cadlib.model.audit_result import LEAKS
from cadlib.model.calibration import SMALL_PX
from cadlib.model.card import formats, values
from cadlib.model.novelty import NOT_CHECKED
from cadlib.model.record import ModelRecord
from cadlib.taxonomy import ACTINIC_KERATOSIS_NOTE, DIAGNOSES

if TYPE_CHECKING:
    from cadlib.model.metrics_file import Metrics

TEMPLATE_FILE = "card.md.jinja"


def render(record: ModelRecord, metrics: "Metrics") -> str:
    """Return the card as Markdown, from a record and the content of its metrics.json."""
    return (
        _templates()
        .get_template(TEMPLATE_FILE)
        .render(
            record=record,
            metrics=metrics,
            on_test=metrics.data.split == "test",
            audited_images=values.audited_images(record),
            target_sensitivities=values.target_sensitivities(),
            point_splits=sorted({point.split for point in record.operating_points}),
            biases=values.biases(record),
            novelty_proof=values.novelty_proof(record, metrics),
            near_areas=values.near_areas(metrics),
            degradations=values.degradations(metrics),
            archive_changes=values.archive_changes(metrics),
        )
    )


@cache
def _templates() -> Environment:
    """Return the environment of the card's templates. The card is Markdown, so no HTML escapes."""
    environment = Environment(
        loader=PackageLoader("cadlib.model.card", "."),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        command_hints=command_hints,
        diagnoses=DIAGNOSES,
        leaks=LEAKS,
        draws=DRAWS,
        small_px=SMALL_PX,
        ece_note=ECE_NOTE,
        not_checked=NOT_CHECKED,
        spread_measures=MEASURES,
        spread_peers=PEERS,
        actinic_keratosis_note=ACTINIC_KERATOSIS_NOTE,
    )
    environment.filters.update(
        count=formats.count,
        percent=formats.percent,
        whole_percent=formats.whole_percent,
        minutes=formats.minutes,
        two_decimals=formats.two_decimals,
        two_digits=formats.two_digits,
        short=formats.short,
        signed=formats.signed,
        change=formats.change,
        capital=formats.capital,
        number=metric_text,
        metric=metric_of,
        shown_name=shown_name,
        both_names=both_names,
        across_table=formats.across_table,
        cross_validation_table=formats.cross_validation_table,
        saliency_table=formats.saliency_table,
        spread_images=images_text,
        spread_table=formats.spread_table,
        borderline_text=borderline_text,
    )
    return environment
