"""The PDF report: complete, deterministic, readable in many scripts, and nothing overlaps or leaves a page."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from PIL import Image

from cadlib import __version__
from cadlib.assessment import Assessment, assess
from cadlib.errors import ReportRejected
from cadlib.images.quality import LIMITS, QualityCheck, QualityReport
from cadlib.images.synthetic import render_lesion
from cadlib.model.novelty import NOT_KNOWN, Novelty
from cadlib.report.pdf import PAPERS, ReportedPatient, ReportedReading, assessment_pdf
from cadlib.report.pdf.typeface import printable
from cadlib.saliency.trust import Trust
from cadlib.taxonomy import DIAGNOSES
from tests.pdf_pages import metadata_of, outline_of, read_pages, text_of

ROOT = Path(__file__).parents[1]
CREATED = datetime(2026, 11, 30, 14, 5, tzinfo=UTC)
PATIENT = ReportedPatient("K-2026-0417", "Left shoulder 1", "posterior torso", date(2026, 11, 29))
READING = ReportedReading(
    reader="Dr Ada Example",
    diagnosis="MEL",
    management="excision",
    confidence=4,
    stage="after",
    response="overrides",
    reason="Blue-white veil at the centre.",
    signed_at=datetime(2026, 12, 1, 9, 30, tzinfo=timezone(timedelta(hours=1))),
)
TRUSTED = Trust(faithfulness=0.81, stability=0.72)
POOR = Trust(faithfulness=-0.12, stability=0.72)
POINTS_A_MM = 72 / 25.4
PAPER_MM = {"A4": (210.0, 297.0), "Letter": (215.9, 279.4)}
FOOT = (
    "Computer-aided diagnosis: it supports the reader and never replaces one. "
    "It is not a diagnosis."
)


@pytest.fixture(scope="module")
def assessment(model) -> Assessment:
    return assess(model, (ROOT / "docs" / "synthetic_lesion.png").read_bytes())


@pytest.fixture(scope="module")
def report(model, assessment):
    """Return a function that writes a report of the assessed lesion; every part can be replaced."""

    def write(of: Assessment = assessment, record=model.record, **parts) -> bytes:
        return assessment_pdf(of, record, **{"created": CREATED, **parts})

    return write


@pytest.fixture(scope="module")
def complete(report) -> bytes:
    return report(patient=PATIENT, reading=READING, trust=TRUSTED, prevalence=0.07)


def flagged(assessment: Assessment, severity: str, count: int) -> Assessment:
    """Return an assessment with so many findings about the quality of its image."""
    checks = [QualityCheck(item.name, 0.0, 1.0, severity, item.sentence) for item in LIMITS[:count]]
    report = QualityReport(assessment.quality.measurements, tuple(checks))
    return replace(assessment, quality=report)


def of_several_networks(assessment: Assessment) -> Assessment:
    """Return an assessment of a model with two networks that do not agree on the decision."""
    refers = np.eye(8)[0]
    spares = np.eye(8)[1]
    prediction = replace(assessment.prediction, member_probabilities=np.stack([refers, spares]))
    return replace(assessment, prediction=prediction)


def runs_outside(data: bytes) -> list[str]:
    """Return the texts and images that are not at least 8 mm inside their page."""
    margin = 8 * POINTS_A_MM
    outside = []
    for page in read_pages(data):
        for run in (*page.runs, *page.images):
            is_across = margin <= run.left and run.right <= page.width - margin
            is_down = margin <= run.bottom and run.top <= page.height - margin
            if not (is_across and is_down):
                outside.append(run.text)
    return outside


def overlaps(data: bytes) -> list[tuple[str, str]]:
    """Return the pairs of texts or images that cover each other."""
    pairs = []
    for page in read_pages(data):
        for first, second in combinations((*page.runs, *page.images), 2):
            if first.overlaps(second):
                pairs.append((first.text, second.text))
    return pairs


@pytest.mark.parametrize("paper", PAPERS)
def test_pages_have_the_size_of_the_paper(report, paper) -> None:
    width_mm, height_mm = PAPER_MM[paper]
    for page in read_pages(report(paper=paper)):
        assert page.width == pytest.approx(width_mm * POINTS_A_MM, abs=0.1)
        assert page.height == pytest.approx(height_mm * POINTS_A_MM, abs=0.1)


def test_a_report_names_patient_time_and_signature(complete) -> None:
    text = text_of(complete)
    assert "Assessment of a skin lesion" in text
    assert "30 Nov 2026, 14:05 UTC" in text
    for value in ("K-2026-0417", "Left shoulder 1", "posterior torso", "29 Nov 2026"):
        assert value in text
    assert "Signed by Dr Ada Example, 01 Dec 2026, 08:30 UTC." in text
    assert "Preliminary" not in text


def test_a_report_has_the_verdict_of_the_reader(complete) -> None:
    text = text_of(complete)
    assert "Diagnosis ▲ Melanoma (MEL)" in text
    assert "Management Excision" in text
    assert "Confidence 4 of 5" in text
    assert "After the reader saw the result; decides against the result" in text
    assert "Reason Blue-white veil at the centre." in text


def test_a_report_states_decision_and_operating_point(complete, assessment) -> None:
    text = text_of(complete)
    assert assessment.decision.sentence in text
    assert "Sensitivity 0.94 95 % CI 0.92 to 0.96 1,304 malignant images" in text
    assert "Specificity 0.58 95 % CI 0.55 to 0.61 2,319 benign images" in text
    assert "balanced, threshold 0.218, measured on test images" in text


def test_predictive_values_need_a_prevalence(report, complete) -> None:
    assert "Positive predictive value 0.14 95 % CI 0.13 to 0.16" in text_of(complete)
    assert "Negative predictive value 0.99 95 % CI 0.99 to 0.99" in text_of(complete)
    assert "assume that 7 % of the examined lesions are malignant" in text_of(complete)
    without = text_of(report())
    assert "predictive value" not in without.replace("predictive values elsewhere", "")
    assert "Operating point" in without


def test_a_report_states_how_far_the_networks_agree(report, assessment) -> None:
    several = of_several_networks(assessment)
    assert several.spread_sentence.startswith("Borderline")
    assert several.spread_sentence in text_of(report(several))


def test_a_report_ranks_all_diagnoses_with_their_marks(complete, assessment) -> None:
    text = text_of(complete)
    ranking = text[text.index("Diagnoses by probability") :]
    places = []
    for code, _ in assessment.prediction.ranking():
        entry = next(entry for entry in DIAGNOSES if entry.code == code)
        places.append(ranking.index(f"{entry.mark} {entry.name} ({code})"))
    assert places == sorted(places)
    assert "▲ malignant, ● benign." in text


def test_diagnoses_of_the_prediction_set_are_marked(report, assessment) -> None:
    marked = {}
    for likely in ((), ("MEL",), ("MEL", "NV", "BKL")):
        text = text_of(report(replace(assessment, likely=likely)))
        marked[likely] = text.count("◆")
    # The legend has the mark, too, unless the set is empty.
    assert marked == {(): 0, ("MEL",): 2, ("MEL", "NV", "BKL"): 4}


def test_a_result_with_patient_data_has_no_prediction_set(report, assessment) -> None:
    text = text_of(report(replace(assessment, likely=None)))
    assert "No prediction set: it was not fitted for results with patient data." in text


def test_a_report_says_what_the_saliency_map_explains(complete) -> None:
    text = text_of(complete)
    assert "Saliency map: Grad-CAM for ▲ Melanoma (MEL)." in text
    assert TRUSTED.sentence in text
    assert "Faithfulness 0.81 (limit 0.48), stability 0.72 (limit 0.44)." in text
    assert "Do not interpret this map" not in text


def test_a_poor_saliency_map_has_its_warning(report) -> None:
    text = text_of(report(trust=POOR))
    assert POOR.sentence in text
    assert "Faithfulness −0.12 (limit 0.48)" in text


def test_a_saliency_map_without_checks_must_not_be_interpreted(report) -> None:
    assert "Do not interpret this map" in text_of(report())


def test_a_missing_saliency_map_is_stated(report, assessment) -> None:
    data = report(replace(assessment, heatmap=None))
    assert "No saliency map was computed for this report." in text_of(data)
    assert len(read_pages(data)[0].images) == 1


def test_a_synthetic_lesion_is_named_as_such(report, model) -> None:
    drawn = render_lesion("MEL", seed=3, size_px=450)
    other = render_lesion("MEL", seed=40, size_px=300)
    texts = []
    for pixels in (drawn, other):
        of = assess(model, Image.fromarray(pixels))
        texts.append(text_of(report(of)))
    assert "Synthetic lesion, not real skin, 450 × 450 px" in texts[0]
    assert "Original image, 300 × 300 px" in texts[1]


def test_a_report_names_model_and_software(complete, model, assessment) -> None:
    text = text_of(complete)
    record = model.record
    for value in (
        f"{record.name} {record.version}",
        record.model_id,
        record.answers_sha256,
        record.validation_claim,
        f"cadlib {__version__}",
        assessment.image.sha256,
    ):
        assert value in text


def test_a_report_states_intended_use_and_limits(complete, model) -> None:
    text = text_of(complete)
    assert model.record.intended_use in text
    for limit in model.record.known_limits:
        assert limit in text


def test_every_page_has_its_number_and_the_role_of_the_report(report) -> None:
    long = replace(READING, reason="A reason. " * 399)
    pages = read_pages(report(reading=long))
    assert len(pages) == 3
    for number, page in enumerate(pages, start=1):
        assert FOOT in page.text
        assert f"Page {number} of 3" in page.text


def test_no_text_can_pose_as_the_number_of_pages(report) -> None:
    patient = ReportedPatient("K {nb} \x1e")
    assert "K {nb} [U+001E]" in text_of(report(patient=patient))


def test_a_page_that_got_lost_names_its_patient(complete) -> None:
    for page in read_pages(complete)[1:]:
        assert "K-2026-0417, Left shoulder 1" in page.text


@pytest.mark.parametrize("reading", [None, replace(READING, signed_at=None)])
def test_a_report_without_signature_is_preliminary_on_every_page(report, reading) -> None:
    pages = read_pages(report(reading=reading))
    assert len(pages) > 1
    for page in pages:
        assert "Preliminary" in page.text
        assert "Signed" not in page.text


def test_missing_details_of_the_patient_are_not_set(report) -> None:
    assert text_of(report()).count("not set") == 4
    assert text_of(report(patient=ReportedPatient(pseudonym="K"))).count("not set") == 3


def test_an_unanswerable_image_has_its_warning_before_the_result(report, assessment) -> None:
    unreadable = flagged(assessment, "unreadable", 2)
    prediction = replace(unreadable.prediction, novelty=Novelty(1.004))
    unknown = replace(unreadable, prediction=prediction)
    text = text_of(report(unknown))
    assert NOT_KNOWN in unknown.warning
    assert text.index(unknown.warning) < text.index(unknown.decision.sentence)
    assert text.index(unknown.warning) < text.index("Diagnoses by probability")
    assert "(novelty 1.004, limit 1)" in text


def test_an_answerable_image_has_no_warning(complete) -> None:
    assert "No reliable result" not in text_of(complete)


def test_findings_about_the_quality_are_listed(report, assessment) -> None:
    text = text_of(report(flagged(assessment, "poor", 8)))
    assert "Image quality: 0 of 8 checks passed." in text
    for limit in LIMITS[:8]:
        assert f"(interpret with care): {limit.sentence}" in text


@pytest.mark.parametrize(
    "name",
    [
        "Žofie Łukasiewicz Ångström",
        "Nguyễn Thị Hồng Ngọc",
        "Παπαδοπούλου Ἑλένη",
        "Щербаков Юрій Ґалаґан",
        "Ərəb Ţepeș Ğül İnci",
    ],
)
def test_names_round_trip(report, name) -> None:
    text = text_of(report(patient=ReportedPatient(name), reading=replace(READING, reader=name)))
    # Table, verdict, signature, and the heads of further pages.
    assert text.count(name) >= 4
    assert "[U+" not in text


def test_decomposed_accents_are_composed(report) -> None:
    text = text_of(report(patient=ReportedPatient("Nguye\u0302\u0303n")))
    assert "Nguyễn" in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("李 A", "[U+674E] A"),
        ("محمد", "[U+0645 U+062D U+0645 U+062F]"),
        ("A\u202eB", "A[U+202E]B"),
        ("K\u00a01\t2", "K 1 2"),
        ("😀", "[U+1F600]"),
    ],
)
def test_other_characters_are_shown_as_code_points(report, name, shown) -> None:
    text = text_of(report(patient=ReportedPatient(name)))
    assert shown in text
    assert ("shown as Unicode code points" in text) == ("U+" in shown)
    assert printable(name) == shown


@pytest.mark.parametrize("paper", PAPERS)
def test_long_details_neither_overlap_nor_leave_the_page(report, assessment, paper) -> None:
    crowded = of_several_networks(flagged(assessment, "unreadable", 8))
    data = report(
        crowded,
        trust=POOR,
        patient=ReportedPatient("W" * 100, "李" * 100, "Long words of a site " * 4, date.max),
        reading=replace(READING, reader="Щ" * 100, reason="Ωmega " * 300 + "\n" + "X" * 400),
        prevalence=0.07,
        paper=paper,
    )
    assert len(read_pages(data)) > 2
    assert not overlaps(data)
    assert not runs_outside(data)


@pytest.mark.parametrize("paper", PAPERS)
def test_a_usual_report_has_two_pages_without_overlaps(report, paper) -> None:
    data = report(patient=PATIENT, reading=READING, trust=POOR, prevalence=0.07, paper=paper)
    assert len(read_pages(data)) == 2
    assert not overlaps(data)
    assert not runs_outside(data)


@pytest.mark.parametrize("size", [(64, 1500), (1500, 64)])
def test_thin_images_stay_on_the_page(report, model, size) -> None:
    image = Image.fromarray(render_lesion("NV", seed=1, size_px=256)).resize(size)
    data = report(assess(model, image))
    assert not overlaps(data)
    assert not runs_outside(data)


def test_a_report_of_noise_is_below_one_megabyte(report, model) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    of = assess(model, Image.fromarray(noise))
    assert len(report(of)) < 1_000_000


def test_the_same_input_gives_the_same_bytes(report, complete) -> None:
    again = report(patient=PATIENT, reading=READING, trust=TRUSTED, prevalence=0.07)
    assert again == complete
    assert report(created=CREATED + timedelta(seconds=1)) != report()


def test_metadata_name_no_patient(complete) -> None:
    metadata = metadata_of(complete)
    assert metadata["Title"] == "Assessment of a skin lesion"
    assert metadata["Producer"] == f"cadlib {__version__}"
    assert metadata["CreationDate"].startswith("D:20261130140500")
    assert not metadata["Author"]
    for name in ("K-2026-0417", "Ada"):
        assert name not in str(metadata)
        # Nor anywhere else outside the compressed pages.
        assert name.encode() not in complete
        assert name.encode("utf-16-be") not in complete


def test_a_report_has_a_language_an_outline_and_texts_for_its_images(complete) -> None:
    assert b"/Lang (en-GB)" in complete
    assert complete.count(b"/Alt ") == 3
    assert outline_of(complete)[0] == "Diagnoses by probability"
    assert "Intended use and limits" in outline_of(complete)


def test_a_record_of_another_model_is_rejected(report, model) -> None:
    other = structs.replace(model.record, version="9.9.9")
    with pytest.raises(ReportRejected, match="record of the model that assessed the image"):
        report(record=other)


def test_a_saliency_map_of_another_image_is_rejected(report, assessment) -> None:
    other = replace(assessment.heatmap, box=(0, 0, 10, 10))
    with pytest.raises(ReportRejected, match="saliency map of this image"):
        report(heatmap=other)


def test_checks_without_their_map_are_rejected(report, assessment) -> None:
    with pytest.raises(ReportRejected, match="saliency map that faithfulness"):
        report(replace(assessment, heatmap=None), trust=TRUSTED)


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, 7.0, float("nan")])
def test_a_prevalence_outside_its_range_is_rejected(report, prevalence) -> None:
    with pytest.raises(ReportRejected, match="prevalence between 0 and 1"):
        report(prevalence=prevalence)


def test_an_unknown_paper_is_rejected(report) -> None:
    with pytest.raises(ReportRejected, match="A4, Letter"):
        report(paper="A3")


def test_a_time_without_its_zone_is_rejected(report) -> None:
    with pytest.raises(ReportRejected, match="time zone"):
        report(created=CREATED.replace(tzinfo=None))


@pytest.mark.parametrize(
    "change",
    [
        {"reader": " "},
        {"reader": "A\nB"},
        {"reader": "A" * 101},
        {"diagnosis": "XYZ"},
        {"management": "wait"},
        {"confidence": 0},
        {"confidence": 6},
        {"stage": "later"},
        {"response": "maybe"},
        {"reason": "A" * 4001},
        {"signed_at": datetime(2026, 11, 30)},  # noqa: DTZ001 - a time without its zone
    ],
)
def test_an_impossible_reading_is_rejected(change) -> None:
    with pytest.raises(ReportRejected, match="Expected"):
        replace(READING, **change)


@pytest.mark.parametrize("field", ["pseudonym", "lesion", "site"])
@pytest.mark.parametrize("text", ["A\nB", "A" * 101])
def test_an_impossible_patient_is_rejected(field, text) -> None:
    with pytest.raises(ReportRejected, match="at most 100 characters in one line"):
        ReportedPatient(**{field: text})


def test_the_fonts_come_with_their_licence() -> None:
    fonts = ROOT / "cadlib" / "report" / "fonts"
    assert "SIL OPEN FONT LICENSE" in (fonts / "OFL.txt").read_text(encoding="utf-8").upper()
    assert sum(file.stat().st_size for file in fonts.glob("*.ttf")) < 1_000_000


def test_even_a_report_with_all_warnings_has_the_ranking_on_its_first_page(report, assessment):
    warned = of_several_networks(flagged(assessment, "unreadable", 3))
    data = report(warned, trust=POOR, patient=PATIENT, reading=READING, prevalence=0.07)
    assert "Vascular lesion (VASC)" in read_pages(data)[0].text
