"""Collects the readings of cases whose outcome is known.

A reading counts when the reader recorded one before the result of an image and one after it, and
the lesion has an outcome. A management that removes the lesion, or refers the patient, counts as a
decision to refer. The model's decision is that of the latest assessment of the image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table, func, select

from cadlib.cases import schema
from cadlib.cases.records import REFERRALS
from cadlib.metrics.reader_results import ALONE, WITH_MODEL, PairedReadings
from cadlib.metrics.study_readings import StudyReadings

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Pair:
    """A reader's first reading and the last one after the result, of one image."""

    patient: str
    reader: str
    image: str
    malignant: bool
    before: str
    after: str
    model_action: str


def paired_readings(connection: Connection) -> PairedReadings:
    """Return the readings before and after the result, of all readers; N may be 0."""
    pairs = _pairs(connection)
    return PairedReadings(
        patient=np.array([pair.patient for pair in pairs], np.str_),
        reader=np.array([pair.reader for pair in pairs], np.str_),
        case=np.array([pair.image for pair in pairs], np.str_),
        malignant=np.array([pair.malignant for pair in pairs], np.bool_),
        before=np.array([pair.before in REFERRALS for pair in pairs], np.bool_),
        after=np.array([pair.after in REFERRALS for pair in pairs], np.bool_),
        model=np.array([pair.model_action == "refer" for pair in pairs], np.bool_),
    )


def study_readings(connection: Connection) -> StudyReadings:
    """Return the same readings as a study of two modalities: reader alone, reader with model."""
    # Each reading is in both modalities, so the study has twice as many rows.
    paired = paired_readings(connection)
    modalities = (ALONE, WITH_MODEL)
    decisions = [paired.decisions(modality) for modality in modalities]
    n = len(paired.reader)
    return StudyReadings(
        reader=np.tile(paired.reader, 2),
        case=np.tile(paired.case, 2),
        modality=np.repeat(np.array(modalities, np.str_), n),
        malignant=np.tile(paired.malignant, 2),
        score=np.concatenate(decisions).astype(np.float64),
    )


def _pairs(connection: Connection) -> list[_Pair]:
    before = _readings(connection, "before")
    after = _readings(connection, "after")
    facts = _facts(connection)
    pairs = []
    for key, first in before.items():
        image_id, reader_id = key
        last = after.get(key)
        of_image = facts.get(image_id)
        # Without an outcome nobody knows who was right.
        if last is None or of_image is None:
            continue
        pair = _Pair(
            patient=of_image["patient_id"],
            reader=reader_id,
            image=image_id,
            malignant=bool(of_image["malignant"]),
            before=first["management"],
            after=last["management"],
            model_action=of_image["action"],
        )
        pairs.append(pair)
    return pairs


def _readings(connection: Connection, stage: str) -> dict[tuple[str, str], Row]:
    """Return the readings of a stage by image and reader: the first before, the last after."""
    table = schema.readings
    query = select(table).where(table.c.stage == stage).order_by(table.c.entry)
    readings: dict[tuple[str, str], Row] = {}
    for row in connection.execute(query):
        key = (row.image_id, row.reader_id)
        # A second first reading may know more; a correction after the result counts.
        if stage == "before" and key in readings:
            continue
        readings[key] = row._asdict()
    return readings


def _facts(connection: Connection) -> dict[str, Row]:
    """Return patient, outcome and the model's action of each image that has an outcome."""
    places = schema.image_places
    lesions = schema.lesions
    outcomes = schema.outcomes
    assessments = schema.assessments
    query = (
        select(
            places.c.image_id,
            lesions.c.patient_id,
            outcomes.c.malignant,
            assessments.c.action,
        )
        .join(lesions, lesions.c.id == places.c.lesion_id)
        .join(outcomes, outcomes.c.lesion_id == lesions.c.id)
        .join(assessments, assessments.c.image_id == places.c.image_id)
        .where(_is_latest(places, "image_id"))
        .where(_is_latest(outcomes, "lesion_id"))
        .where(_is_latest(assessments, "image_id"))
    )
    return {row.image_id: row._asdict() for row in connection.execute(query)}


def _is_latest(table: Table, key: str) -> Any:
    """Return the condition that a row is the latest of its image or lesion."""
    newer = table.alias()
    last = select(func.max(newer.c.entry)).where(newer.c[key] == table.c[key]).scalar_subquery()
    return table.c.entry == last
