"""The commands for stored cases."""

import pytest
from sqlalchemy import update

from cadlib.__main__ import main
from cadlib.cases import place, schema
from cadlib.cases.store import CaseStore
from tests.case_examples import add_case


@pytest.fixture
def store(tmp_path, monkeypatch, lesion_images):
    """Return the store of the environment, with a patient."""
    monkeypatch.setenv(place.URL_VARIABLE, f"sqlite:///{tmp_path / 'cases.sqlite'}")
    monkeypatch.setenv(place.IMAGES_VARIABLE, str(tmp_path / "images"))
    store = CaseStore.open()
    add_case(store, "P-1", lesion_images[0])
    yield store
    store.close()


def test_an_unchanged_store_is_proved(store, capsys):
    assert main(["cases", "verify"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Audit log: unbroken, ")
    sha256 = second.rpartition(" ")[2]
    assert main(["cases", "verify", "--expected", sha256, "--skip-images"]) == 0
    assert main(["cases", "verify", "--expected", "0" * 64]) == 1


def test_a_changed_entry_is_named(store, capsys):
    log = schema.audit_log
    with store.engine.begin() as connection:
        connection.execute(update(log).where(log.c.number == 2).values(actor="somebody"))
    assert main(["cases", "verify"]) == 1
    assert "broken at entry 2" in capsys.readouterr().out


def test_a_backup_is_restored(store, tmp_path, capsys):
    file = str(tmp_path / "cases.zip")
    assert main(["cases", "backup", "--output", file]) == 0
    assert "1 images in" in capsys.readouterr().out
    address = ["--database", f"sqlite:///{tmp_path / 'b.sqlite'}", "--images", str(tmp_path / "b")]
    assert main(["cases", "restore", "--backup", file, *address]) == 0
    assert main(["cases", "verify", *address]) == 0
    assert main(["cases", "restore", "--backup", file, *address]) == 1
    assert "an empty store" in capsys.readouterr().err


def test_a_patient_is_erased_only_when_confirmed(store, capsys):
    assert main(["cases", "erase", "--pseudonym", "P-1"]) == 2
    assert "Expected --yes to delete 'P-1'" in capsys.readouterr().err
    assert main(["cases", "erase", "--pseudonym", "P-1", "--yes"]) == 0
    assert "1 images deleted" in capsys.readouterr().out
    assert main(["cases", "erase", "--pseudonym", "P-1", "--yes"]) == 1
    assert "there is none" in capsys.readouterr().err


def test_the_log_is_kept_for_six_months(store, capsys):
    assert main(["cases", "prune-log", "--keep-days", "30"]) == 1
    assert "at least 183 days" in capsys.readouterr().err
    assert main(["cases", "prune-log", "--keep-days", "183"]) == 0
    assert capsys.readouterr().out == "0 entries removed\n"
