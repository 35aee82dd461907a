import json

import pytest

from cadlib.errors import ClinicInvalid
from cadlib.server.clinic_settings import Clinic, clinic_path, read_clinic, save_clinic


def test_a_clinic_that_chose_nothing_has_the_usual_point_and_no_prevalence(clinic_file):
    assert clinic_path() == clinic_file
    assert read_clinic() == Clinic("balanced", None)


def test_saved_settings_are_read_back(clinic_file):
    for clinic in (Clinic("rule-out", 0.04), Clinic("rule-in", None)):
        save_clinic(clinic)
        assert read_clinic() == clinic
    assert [path.name for path in clinic_file.parent.iterdir()] == [clinic_file.name]


@pytest.mark.parametrize("prevalence", [0, 0.0005, 1, 4.0, -0.1, True, "0.1", float("nan")])
def test_rejects_an_invalid_prevalence(prevalence):
    with pytest.raises(ClinicInvalid, match="from 0.001 to 0.99"):
        Clinic(prevalence=prevalence)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "JSON object"),
        (json.dumps({"prevalence": 0.1}), "JSON object"),
        (json.dumps({"prevalence": 0.1, "operating_point": "balanced", "more": 1}), "JSON object"),
        (json.dumps({"prevalence": 4, "operating_point": "balanced"}), "from 0.001 to 0.99"),
        (json.dumps({"prevalence": 0.1, "operating_point": 3}), "operating point"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_and_no_default(clinic_file, text, message):
    clinic_file.write_text(text)
    with pytest.raises(ClinicInvalid, match=message):
        read_clinic()


def test_an_unwritable_settings_file_is_named(clinic_file, monkeypatch):
    clinic_file.write_text("a file, where a folder should be")
    monkeypatch.setenv("CADLIB_CLINIC", str(clinic_file / "clinic.json"))
    with pytest.raises(ClinicInvalid, match="cannot be written"):
        save_clinic(Clinic())
