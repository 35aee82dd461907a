"""A study keeps its readings through iMRMC's text, and damaged texts are refused by name."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadlib.errors import StudyInvalid
from cadlib.metrics.imrmc_format import imrmc_text, study_of_imrmc
from cadlib.metrics.study_readings import StudyReadings

# As in FilesTest-iMRMC/test_binary_data.imrmc of DIDSR/iMRMC: more lines in the header, spaces
# after a count, and any modality in a row of the truth.
PUBLISHED_STYLE = """Simulated binary data

Roe and Metz simulation model
n = the experiment size (cases, readers)

NR:2
N0: 1
N1: 1
NM: 2{space}

BEGIN DATA:
-1,1,modality_should_not,0
truth,2,matter_for_truth,1
reader1,1,modality1,1.000000
reader1,2,modality1,0.000000
reader1, 1, modality2, 0.5
reader2,2,modality2,-2.5e-1
"""


def study(**changes):
    columns = {
        "reader": ["Ana", "Ana", "Ben", "Ben"],
        "case": ["7", "8", "7", "8"],
        "modality": ["alone", "alone", "with model", "with model"],
        "malignant": [True, False, True, False],
        "score": [4.0, 1.5, 5.0, 2.0],
    }
    return StudyReadings.of_lists(**columns | changes)


def columns_of(readings):
    return (
        readings.reader.tolist(),
        readings.case.tolist(),
        readings.modality.tolist(),
        readings.malignant.tolist(),
        readings.score.tolist(),
    )


def test_the_text_has_the_form_of_imrmc():
    assert imrmc_text(study(), "Pilot") == (
        "Pilot\n\nN0: 1\nN1: 1\nNR: 2\nNM: 2\n\nBEGIN DATA:\n"
        "-1,7,0,1\n-1,8,0,0\n"
        "Ana,7,alone,4.0\nAna,8,alone,1.5\nBen,7,with model,5.0\nBen,8,with model,2.0\n"
    )


def test_reads_a_file_in_the_style_of_the_published_ones():
    readings = study_of_imrmc(PUBLISHED_STYLE.format(space=" "))
    assert columns_of(readings) == (
        ["reader1", "reader1", "reader1", "reader2"],
        ["1", "2", "1", "2"],
        ["modality1", "modality1", "modality2", "modality2"],
        [False, True, False, True],
        [1.0, 0.0, 0.5, -0.25],
    )


def test_reads_a_file_that_a_spreadsheet_saved():
    lines = imrmc_text(study()).splitlines()
    header = [f"{line},,," for line in lines[:8]]
    saved = "\ufeff" + "\r\n".join(header + lines[8:])
    assert columns_of(study_of_imrmc(saved)) == columns_of(study())


LETTERS = string.ascii_letters + string.digits + "äß_-.;:'\"#"
NAMES = st.text(LETTERS, min_size=1, max_size=6).filter(lambda name: name not in ("-1", "truth"))


@st.composite
def studies(draw):
    readers = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    modalities = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    truth = draw(st.dictionaries(NAMES, st.booleans(), min_size=1, max_size=4))
    triple = st.tuples(
        st.sampled_from(readers), st.sampled_from(sorted(truth)), st.sampled_from(modalities)
    )
    triples = draw(st.lists(triple, max_size=20, unique=True))
    n = len(triples)
    scores = draw(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=n, max_size=n)
    )
    return StudyReadings.of_lists(
        [reader for reader, _, _ in triples],
        [case for _, case, _ in triples],
        [f"by {modality}" for _, _, modality in triples],
        [truth[case] for _, case, _ in triples],
        scores,
    )


@given(readings=studies())
def test_readings_survive_the_way_through_the_text(readings):
    assert columns_of(study_of_imrmc(imrmc_text(readings))) == columns_of(readings)


@pytest.mark.parametrize("kind", ["reader", "case", "modality"])
@pytest.mark.parametrize(
    "name", ["A,B", "A\nB", "A\r", "A\u2028B", "A\tB", " A", "A ", " ", "A\x00B"]
)
def test_names_that_the_format_cannot_hold_are_refused(kind, name):
    with pytest.raises(StudyInvalid, match=f"name of a {kind} without commas, line breaks"):
        imrmc_text(study(**{kind: [name, "C", name, "C"]}))


@pytest.mark.parametrize("name", ["-1", "truth"])
def test_a_reader_with_the_name_of_the_truth_is_refused(name):
    with pytest.raises(StudyInvalid, match="mark the truth"):
        imrmc_text(study(reader=[name, name, "Ben", "Ben"]))


def test_names_that_differ_in_spaces_alone_are_refused():
    with pytest.raises(StudyInvalid, match="'withmodel'"):
        imrmc_text(study(modality=["withmodel", "withmodel", "with model", "with model"]))


@pytest.mark.parametrize("title", ["Pilot\nN0: 3", "study n1: first", "Begin data: now"])
def test_a_title_that_imrmc_takes_for_a_count_is_refused(title):
    with pytest.raises(StudyInvalid, match="title of one line"):
        imrmc_text(study(), title)


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
    [
        ("BEGIN DATA:", "DATA", "a line BEGIN DATA:"),
        ("N1: 1", "", "found none of N1"),
        ("N0: 1", "N0: 4", "N0 to be 4"),
        ("NR: 2", "NR: 3", "NR to be 3"),
        ("NM: 2", "NM: two", "found none of NM"),
        ("-1,7,0,1\n", "", "case 7 has none"),
        ("-1,7,0,1", "-1,7,0,2", "truth of 0 or 1 in line 9"),
        ("-1,7,0,1", "-1,7,0,1\n-1,7,0,0", "line 10 is the second one of case 7"),
        ("-1,7,0,1", "-1,7,0,1\n-1,9,0,1", "case 9 has only its truth"),
        ("Ana,7,alone,4.0", "Ana,7,alone", "reader,case,modality,score in line 11"),
        ("Ana,7,alone,4.0", "Ana,,alone,4.0", "reader,case,modality,score in line 11"),
        ("Ana,7,alone,4.0", "Ana,7,alone,high", "score in line 11 but got 'high'"),
        ("Ana,7,alone,4.0", "Ana,7,alone,nan", "finite number"),
        ("Ana,8,alone,1.5", "Ana,7,alone,1.5", "2 readings of case 7"),
    ],
)
def test_damaged_texts_are_refused(line, replacement, message):
    text = imrmc_text(study())
    assert line in text
    with pytest.raises(StudyInvalid, match=message):
        study_of_imrmc(text.replace(line, replacement))
