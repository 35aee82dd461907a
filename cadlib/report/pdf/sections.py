"""Draws the sections of a PDF report."""

from dataclasses import replace

from cadlib import __version__
from cadlib.metrics.operating_point import OperatingPoint
from cadlib.metrics.predictive_values import PredictiveValues
from cadlib.report.pdf import sentences, style
from cadlib.report.pdf.details import ReportedPatient, Subject
from cadlib.report.pdf.document import Document
from cadlib.report.pdf.sheet import Column
from cadlib.report.pdf.style import MARGIN, Fact
from cadlib.report.pdf.typeface import is_changed
from cadlib.taxonomy import MALIGNANT_NOTE, diagnosis

_STATUS_WIDTH = 40.0
_ROW_HEIGHT = 5.4
_LEGEND_HEIGHT = 9.3
_BAR_HEIGHT = 2.6
# The columns of the ranking touch each other; its bars take the rest of the width.
_MARK_COLUMN = Column(MARGIN, 5)
_NAME_COLUMN = Column(MARGIN + 5, 57)
_NUMBER_COLUMN = Column(MARGIN + 62, 14)
_SET_COLUMN = Column(MARGIN + 76, 7)
_BARS_LEFT = MARGIN + 83


def title(page: Document, subject: Subject) -> None:
    """Draw the title, the time, and whether the report is signed."""
    top = page.get_y()
    # The status stands at the right of the title.
    column = Column(MARGIN, page.epw - _STATUS_WIDTH)
    end = page.write_text(sentences.TITLE, column, top, style.TITLE)
    created = sentences.moment_text(subject.created)
    line = f"{created} · cadlib {__version__}"
    end = page.write_text(line, page.full, end, style.SMALL)
    status = sentences.PRELIMINARY
    colour = style.WARNING
    if subject.signed:
        status = sentences.SIGNED
        colour = style.ACCENT
    page.badge(status, top + 1.2, colour)
    page.set_y(end + 4)


def patient(page: Document, details: ReportedPatient) -> None:
    """Draw the pseudonym, the lesion, its site and the day of the visit."""
    visit = sentences.day_text(details.visit) if details.visit else None
    values = {
        "Patient (pseudonym)": details.pseudonym,
        "Lesion": details.lesion,
        "Site": details.site,
        "Visit": visit,
    }
    facts = [Fact(label, value or sentences.NOT_SET) for label, value in values.items()]
    page.columns(facts)
    if any(is_changed(fact.value) for fact in facts):
        page.paragraph(sentences.CODE_POINTS_NOTE, style.SMALL)
    page.space(2)


def warning(page: Document, subject: Subject) -> None:
    """Draw why the image has no reliable result; nothing for an answerable image."""
    text = subject.assessment.warning
    if text:
        page.warning(text)
        page.space(3.5)


def decision(page: Document, subject: Subject) -> None:
    """Draw the decision, how far the networks agree, and how often such decisions are right."""
    assessment = subject.assessment
    point = assessment.decision.operating_point
    page.notice(assessment.decision.sentence, assessment.spread_sentence)
    page.space(3)
    facts = _measured_facts(point)
    prevalence = subject.prevalence
    # Predictive values are never those of the data set.
    if prevalence is None:
        facts += _point_facts(point)
        page.columns(facts)
        return
    facts += _predictive_facts(point, prevalence)
    page.columns(facts)
    page.paragraph(sentences.point_text(point), style.SMALL)
    page.paragraph(sentences.prevalence_text(prevalence), style.SMALL)


def ranking(page: Document, subject: Subject) -> None:
    """Draw the eight diagnoses, the most probable first."""
    pairs = subject.assessment.prediction.ranking()
    rows_height = _ROW_HEIGHT * len(pairs)
    # The ranking stays on one page, with the meaning of its marks.
    page.heading("Diagnoses by probability", following=rows_height + _LEGEND_HEIGHT)
    likely = subject.assessment.likely
    for code, probability in pairs:
        is_likely = likely is not None and code in likely
        _draw_rank(page, code, probability, is_likely=is_likely)
    page.space(1.2)
    coverage = subject.record.conformal.coverage
    in_set = sentences.set_text(likely, coverage)
    page.paragraph(MALIGNANT_NOTE, style.SMALL)
    page.paragraph(in_set, style.SMALL)


def quality(page: Document, subject: Subject) -> None:
    """Draw the problems of the image, and whether it is of a known type."""
    report = subject.assessment.quality
    page.heading("Image quality and type")
    summary = sentences.quality_text(report)
    page.paragraph(summary)
    page.space(0.8)
    findings = [sentences.finding_text(check) for check in report.flagged]
    page.bullets(findings)
    image_type = sentences.novelty_text(subject.assessment.novelty)
    page.paragraph(image_type)


def reading(page: Document, subject: Subject) -> None:
    """Draw the verdict of the reader, or that the report is preliminary."""
    page.heading("Reader’s verdict")
    verdict = subject.reading
    status = sentences.status_text(verdict)
    # The section stays, so that a missing verdict is not overlooked.
    if verdict is None:
        page.paragraph(status, style.STRONG)
        return
    facts = [
        Fact("Reader", verdict.reader),
        Fact("Diagnosis", sentences.named(verdict.diagnosis)),
        Fact("Management", verdict.management.capitalize()),
        Fact("Confidence", f"{verdict.confidence} of 5"),
        Fact("Decided", sentences.stage_text(verdict)),
    ]
    if verdict.reason:
        facts.append(Fact("Reason", verdict.reason))
    page.rows(facts)
    page.space(1.2)
    page.paragraph(status, style.STRONG)
    if is_changed(verdict.reader + verdict.reason):
        page.paragraph(sentences.CODE_POINTS_NOTE, style.SMALL)


def model(page: Document, subject: Subject) -> None:
    """Draw which model and which image the result is of."""
    record = subject.record
    image = subject.assessment.image
    width_px, height_px = image.file_px
    used = sentences.facts_text(subject.assessment.prediction.facts)
    page.heading("Model and image")
    facts = [
        Fact("Model", f"{record.name} {record.version}, {record.networks_text}"),
        Fact("Model id", record.model_id),
        Fact("Model hash (SHA-256)", record.answers_sha256),
        Fact("Validation", record.validation_claim),
        Fact("Software", f"cadlib {__version__}"),
        Fact("Patient data used", used),
        Fact("Image file", f"{image.format}, {width_px:,} × {height_px:,} px"),
        Fact("Image hash (SHA-256)", image.sha256),
    ]
    # For example: a large image was reduced, or red and blue were exchanged.
    if image.notes:
        facts.append(Fact("Notes on the image", " ".join(image.notes)))
    page.rows(facts)


def limits(page: Document, subject: Subject) -> None:
    """Draw the intended use and the known limits of the model."""
    record = subject.record
    page.heading("Intended use and limits")
    page.paragraph(record.intended_use)
    page.space(1.2)
    page.bullets(record.known_limits)
    page.space(0.6)
    page.paragraph(record.data_licence, style.SMALL)


def _measured_facts(point: OperatingPoint) -> list[Fact]:
    """Return sensitivity and specificity with their intervals."""
    sensitivity_ci = sentences.interval_text(point.intervals.sensitivity)
    specificity_ci = sentences.interval_text(point.intervals.specificity)
    sensitivity = Fact(
        label="Sensitivity",
        value=sentences.share_text(point.sensitivity),
        note=f"{sensitivity_ci}\n{point.n_malignant:,} malignant images",
    )
    specificity = Fact(
        label="Specificity",
        value=sentences.share_text(point.specificity),
        note=f"{specificity_ci}\n{point.n_benign:,} benign images",
    )
    return [sensitivity, specificity]


def _point_facts(point: OperatingPoint) -> list[Fact]:
    """Return the operating point, and what it was measured on."""
    threshold = f"threshold {point.threshold:.3f}"
    return [
        Fact("Operating point", point.shown_name, threshold),
        Fact("Measured on", f"{point.split} images"),
    ]


def _predictive_facts(point: OperatingPoint, prevalence: float) -> list[Fact]:
    """Return PPV and NPV at a prevalence."""
    values = PredictiveValues(point, prevalence)
    # Both or none have intervals.
    positive_ends, negative_ends = values.intervals or (None, None)
    positive = Fact(
        label="Positive predictive value",
        value=sentences.share_text(values.positive),
        note=sentences.interval_text(positive_ends),
    )
    negative = Fact(
        label="Negative predictive value",
        value=sentences.share_text(values.negative),
        note=sentences.interval_text(negative_ends),
    )
    return [positive, negative]


def _draw_rank(page: Document, code: str, probability: float, *, is_likely: bool) -> None:
    """Draw a row of the ranking: mark, name, probability, ◆ in the prediction set, bar."""
    entry = diagnosis(code)
    # Diagnoses of the prediction set are bold, as ◆ may be overlooked.
    letters = style.STRONG if is_likely else style.BODY
    mark_letters = replace(style.STRONG, colour=entry.group_colour)
    name = f"{entry.name} ({code})"
    number = sentences.share_text(probability)
    top = page.get_y()
    page.write_text(entry.mark, _MARK_COLUMN, top, mark_letters)
    page.write_text(name, _NAME_COLUMN, top, letters)
    page.write_text(number, _NUMBER_COLUMN, top, letters)
    if is_likely:
        page.write_text("◆", _SET_COLUMN, top, letters)
    # The bar is in the middle of the line, as the letters are.
    above = (letters.line - _BAR_HEIGHT) / 2
    _draw_bar(page, top + above, probability, entry.group_colour)
    page.set_y(top + _ROW_HEIGHT)


def _draw_bar(page: Document, top: float, probability: float, colour: str) -> None:
    """Draw a bar up to the right margin, filled by the probability."""
    whole = page.right - _BARS_LEFT
    track = Column(_BARS_LEFT, whole)
    page.bar(track, top, _BAR_HEIGHT, style.TRACK)
    part = Column(_BARS_LEFT, whole * probability)
    page.bar(part, top, _BAR_HEIGHT, colour)
