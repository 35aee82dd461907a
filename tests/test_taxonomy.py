import csv

import pytest

from cadlib.taxonomy import CODES, DIAGNOSES, UNKNOWN, diagnosis


def test_the_order_is_that_of_the_official_ground_truth(data_dir):
    with (data_dir / "isic2019" / "ISIC_2019_Training_GroundTruth.csv").open() as file:
        header = next(csv.reader(file))
    assert header == ["image", *CODES, UNKNOWN]


def test_four_of_the_eight_diagnoses_are_malignant():
    assert {d.code for d in DIAGNOSES if d.malignant} == {"MEL", "BCC", "AK", "SCC"}


def test_every_diagnosis_has_a_colour_of_its_own():
    assert len({d.colour for d in DIAGNOSES}) == len(DIAGNOSES)


def test_refuses_a_code_it_does_not_know():
    with pytest.raises(ValueError, match=r"one of MEL, NV.* but got 'UNK'"):
        diagnosis("UNK")
