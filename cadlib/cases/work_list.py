"""Lists stored images in the order of their urgency."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Subquery,
    Table,
    Text,
    case,
    func,
    select,
)

from cadlib.cases import schema
from cadlib.cases.records import STATES

Order = Literal["risk", "uncertainty", "age"]
ORDERS: tuple[Order, ...] = ("risk", "uncertainty", "age")
"""Highest malignant probability first; nearest to the threshold first; longest waiting first."""

_ASSESSED = (
    *("diagnosis", "action", "malignant_probability", "malignant_low", "malignant_high"),
    *("threshold", "borderline", "interpretable"),
)
"""Columns of an assessment in the list."""


@dataclass(frozen=True)
class WorkItem:
    """An image in the work list, with its latest assessment.

    The fields of the assessment are None for an image that has none yet.
    """

    image_id: str
    sha256: str
    added_at: datetime
    patient_id: str
    pseudonym: str
    lesion_id: str
    label: str
    site: str | None
    state: str
    assessment_id: str | None
    diagnosis: str | None
    action: str | None
    malignant_probability: float | None
    malignant_low: float | None
    malignant_high: float | None
    threshold: float | None
    borderline: bool | None
    interpretable: bool | None


def work_list(
    connection: Connection,
    order: Order = "risk",
    states: Sequence[str] = STATES,
    text: str = "",
    *,
    limit: int = 50,
    offset: int = 0,
) -> list[WorkItem]:
    """Return images in these states, from `offset` on, at most `limit`.

    `text` is part of a pseudonym, in upper or lower case.
    """
    rows = _Rows()
    query = rows.select().where(*rows.conditions(states, text))
    query = query.order_by(*_order(rows, order)).limit(limit).offset(offset)
    return [WorkItem(**row._asdict()) for row in connection.execute(query)]


def count_by_state(connection: Connection, text: str = "") -> dict[str, int]:
    """Return the number of images in each state, of patients with `text` in their pseudonym."""
    rows = _Rows()
    state = rows.states.c.state
    query = select(state, func.count()).group_by(state)
    if text:
        # The assessments, the largest table, are not needed.
        query = query.select_from(rows.with_patients()).where(*rows.conditions(STATES, text))
    numbers = dict.fromkeys(STATES, 0)
    for name, number in connection.execute(query):
        numbers[name] = number
    return numbers


class _Rows:
    """The tables of a work list, joined by their latest rows."""

    def __init__(self) -> None:
        self.places = _latest(schema.image_places, "image_id")
        self.patients = _latest(schema.patient_versions, "patient_id")
        self.lesions = _latest(schema.lesion_versions, "lesion_id")
        self.states = _latest(schema.states, "image_id")
        self.assessments = _latest(schema.assessments, "image_id")

    def select(self) -> Select[Any]:
        """Return a query with the columns of WorkItem."""
        images = schema.images
        columns = [
            images.c.id.label("image_id"),
            images.c.sha256,
            images.c.recorded_at.label("added_at"),
            schema.lesions.c.patient_id,
            self.patients.c.pseudonym,
            self.places.c.lesion_id,
            self.lesions.c.label,
            self.lesions.c.site,
            self.states.c.state,
            self.assessments.c.id.label("assessment_id"),
        ]
        # All of them are empty for an image that waits.
        columns += [self.assessments.c[field] for field in _ASSESSED]
        return select(*columns).select_from(self._joined())

    def _joined(self) -> FromClause:
        """Return all tables, joined."""
        # An image that waits for its assessment is in the list too.
        is_of_image = self.assessments.c.image_id == schema.images.c.id
        return self.with_patients().outerjoin(self.assessments, is_of_image)

    def with_patients(self) -> FromClause:
        """Return the tables without the assessments, joined."""
        image_id = schema.images.c.id
        lesions = schema.lesions
        return (
            schema.images.join(self.places, self.places.c.image_id == image_id)
            .join(lesions, lesions.c.id == self.places.c.lesion_id)
            .join(self.lesions, self.lesions.c.lesion_id == lesions.c.id)
            .join(self.patients, self.patients.c.patient_id == lesions.c.patient_id)
            .join(self.states, self.states.c.image_id == image_id)
        )

    def conditions(self, states: Sequence[str], text: str) -> list[ColumnElement[bool]]:
        """Return what the images of a list have in common."""
        conditions: list[ColumnElement[bool]] = [self.states.c.state.in_(states)]
        if text:
            pseudonym = func.lower(self.patients.c.pseudonym)
            conditions.append(pseudonym.contains(text.lower(), autoescape=True))
        return conditions


def _latest(table: Table, key: str) -> Subquery:
    """Return the latest row of each thing of a table; `key` is the column with its id."""
    # Long texts would be copied for each row, and no list shows them.
    columns = [column for column in table.columns if not isinstance(column.type, Text)]
    newer = table.alias()
    last = select(func.max(newer.c.entry)).where(newer.c[key] == table.c[key]).scalar_subquery()
    return select(*columns).where(table.c.entry == last).subquery()


def _order(rows: _Rows, order: Order) -> list[ColumnElement[Any]]:
    """Return what a list is sorted by; the image that waits longest comes first among equals."""
    assessed = rows.assessments.c
    oldest_first = schema.images.c.entry.asc()
    # Databases do not agree on where a missing value is sorted.
    is_missing = case((assessed.id.is_(None), 1), else_=0)
    if order == "age":
        return [oldest_first]
    if order == "risk":
        return [is_missing, assessed.malignant_probability.desc(), oldest_first]
    distance = func.abs(assessed.malignant_probability - assessed.threshold)
    # Networks that disagree on the decision are more uncertain than any distance says.
    agrees = case((assessed.borderline.is_(True), 0), else_=1)
    return [is_missing, agrees, distance, oldest_first]
