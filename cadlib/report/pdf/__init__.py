"""Writes a PDF report of one assessed image.

    details     the patient and the reading that a caller adds
    sections    what a report has, from top to bottom
    pictures    the image and its saliency map
    sentences   the texts
    document    paragraphs, notices, facts, lists
    sheet       pages, their frame, what is drawn on them
    style       colours, sizes, distances
    typeface    the characters that can be printed

The pages are drawn by fpdf2, without a browser. Metadata of the file name no patient.
"""

from datetime import datetime

from cadlib.assessment import Assessment
from cadlib.model.record import ModelRecord
from cadlib.report.pdf import pictures, sections, sentences
from cadlib.report.pdf.details import (
    PAPERS,
    Paper,
    ReportedPatient,
    ReportedReading,
    Subject,
    check_paper,
    in_utc,
)
from cadlib.report.pdf.document import Document
from cadlib.report.pdf.sheet import Frame
from cadlib.saliency.heatmap import Heatmap
from cadlib.saliency.trust import Trust

__all__ = ["PAPERS", "Paper", "ReportedPatient", "ReportedReading", "assessment_pdf"]


def assessment_pdf(
    assessment: Assessment,
    record: ModelRecord,
    *,
    created: datetime,
    heatmap: Heatmap | None = None,
    trust: Trust | None = None,
    patient: ReportedPatient | None = None,
    reading: ReportedReading | None = None,
    prevalence: float | None = None,
    paper: Paper = "A4",
) -> bytes:
    """Return a PDF report of an assessed image, below 1 MB. The same input gives the same bytes.

    `record` is that of the model that assessed the image. `heatmap` is the saliency map to show, by
    default that of the assessment; `trust` are its measured faithfulness and stability, and without
    them the report says not to interpret the map. `prevalence`, above 0 and below 1, is the share
    of malignant lesions in the clinic and adds predictive values. `created` has a time zone. A
    report without a signed reading says that it is preliminary. Raise ReportRejected where the
    parts do not belong together or are out of range.

    >>> from cadlib import Model, assess
    >>> from cadlib.images.synthetic import demo_lesions
    >>> model = Model.load("isic2019")
    >>> assessment = assess(model, demo_lesions()[0].png())
    >>> created = datetime.fromisoformat("2026-11-30T14:05:00+00:00")
    >>> assessment_pdf(assessment, model.record, created=created)[:5]
    b'%PDF-'
    """
    check_paper(paper)
    subject = Subject(
        assessment=assessment,
        record=record,
        heatmap=heatmap or assessment.heatmap,
        trust=trust,
        patient=patient or ReportedPatient(),
        reading=reading,
        prevalence=prevalence,
        created=in_utc("the report", created),
    )
    page = Document(paper, subject.created, _frame(subject))
    sections.title(page, subject)
    sections.patient(page, subject.patient)
    # A reader has to know that the image is not answerable before the result.
    sections.warning(page, subject)
    pictures.images(page, subject)
    sections.decision(page, subject)
    sections.ranking(page, subject)
    sections.quality(page, subject)
    sections.reading(page, subject)
    sections.model(page, subject)
    sections.limits(page, subject)
    return bytes(page.output())


def _frame(subject: Subject) -> Frame:
    """Return what is repeated on every page."""
    patient = subject.patient
    names = [name for name in (patient.pseudonym, patient.lesion) if name]
    status = sentences.SIGNED if subject.signed else sentences.PRELIMINARY
    return Frame(
        title=sentences.TITLE,
        subject=", ".join(names) or f"image {subject.assessment.image.sha256[:12]}",
        status=f"{status} · {sentences.moment_text(subject.created)}",
        foot=sentences.CAD_NOTE,
    )
