"""Measures the spread of a model's networks on images that are new.

An image is new if no network was trained on it. A network is more certain of images that it
was trained on, so these are left out.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import short_sides
from cadlib.data.splits import lesion_groups
from cadlib.evaluation.model_outputs import TableOutputs
from cadlib.images.patient import design_of
from cadlib.metrics.network_spread import measure_spread
from cadlib.metrics.operating_point import DEFAULT_OPERATING_POINT
from cadlib.metrics.partial_labels import PartialLabels, has_label
from cadlib.metrics.summary_schema import NetworkSpread, SpreadMetrics
from cadlib.model.metadata import MetadataEvidence, add_evidence
from cadlib.model.model import Model
from cadlib.model.split import new_to_networks

Mask = NDArray[np.bool_]


def network_spread(
    model: Model,
    table: pd.DataFrame,
    outputs: TableOutputs,
    evidence: MetadataEvidence | None = None,
) -> NetworkSpread | None:
    """Return how well the spread predicts errors; None for a model of one network.

    `table` is that of a data set, and `outputs` has the same rows. Images without a label do not
    count. The `evidence` of patient facts, if passed, is added to all probabilities.
    """
    n_networks = len(model.record.members)
    if n_networks == 1:
        return None
    labelled = has_label(table)
    is_new = new_to_networks(model.folder, model.record, table["image"])
    rows = labelled & is_new
    n_trained_on = int((labelled & ~is_new).sum())
    unseen = None
    if rows.any():
        unseen = _measured(model, table, outputs, evidence, rows)
    return NetworkSpread(networks=n_networks, trained_on=n_trained_on, unseen=unseen)


def _measured(
    model: Model,
    table: pd.DataFrame,
    outputs: TableOutputs,
    evidence: MetadataEvidence | None,
    rows: Mask,
) -> SpreadMetrics:
    """Return the metrics of some rows, (N,), at least one."""
    images = table[rows].reset_index(drop=True)
    sides_px = short_sides(images)
    # Each network is calibrated as the whole model is.
    by_network = []
    for network in range(len(model.record.members)):
        logits = outputs.member_logits[rows, network]
        by_network.append(model.calibrated(logits, sides_px))
    members = np.stack(by_network, axis=1)
    probabilities = model.calibrated(outputs.logits[rows], sides_px)
    if evidence:
        added = evidence.logits_of(design_of(images))
        probabilities = add_evidence(probabilities, added)
        members = add_evidence(members, added[:, None])
    point = model.record.operating_point(DEFAULT_OPERATING_POINT, with_facts=evidence is not None)
    return measure_spread(
        PartialLabels.of_table(images),
        probabilities,
        members,
        point.threshold,
        lesion_groups(images).to_numpy(),
    )
