"""What was confirmed is stored, whatever happens to the process, the disk or the database."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from cadlib.cases import queries
from cadlib.cases.records import PatientDetails
from cadlib.cases.store import CaseStore
from cadlib.cases.verification import verify
from cadlib.errors import CaseStoreFailed
from tests.case_examples import add_case
from tests.postgresql_server import PostgresqlServer

SAVER = Path(__file__).with_name("save_cases.py")
ROOT = Path(__file__).parents[2]
WRITERS = 8
CASES_A_WRITER = 12
KILLS = 50

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")


def start_saver(url: str, store: CaseStore, name: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(SAVER), url, store.images.address, name, str(CASES_A_WRITER)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def check_all_there(store: CaseStore, confirmed: list[str]) -> None:
    """Check that each confirmed case is complete, and nothing is there in half."""
    with store.read() as connection:
        verification = verify(connection, store.images)
        assert verification.unchanged, str(verification)
        for line in confirmed:
            patient_id, image_id = line.split()
            assert queries.patient(connection, patient_id)
            image = queries.image(connection, image_id)
            assert store.images.has(image.sha256)
        tables = ("patients", "lesions", "visits", "images", "states")
        counts = [
            connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in tables
        ]
    # A case is written in one transaction, so all have the same number.
    assert len(set(counts)) == 1
    assert counts[0] >= len(confirmed)


def test_eight_writers_at_once_lose_nothing(store, url):
    writers = [start_saver(url, store, f"writer{number}") for number in range(WRITERS)]
    confirmed = []
    for writer in writers:
        output, _ = writer.communicate(timeout=120)
        assert writer.returncode == 0
        confirmed += output.splitlines()
    assert len(confirmed) == CASES_A_WRITER * WRITERS
    check_all_there(store, confirmed)


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_process_killed_in_the_middle_of_a_save_loses_nothing_confirmed(store, url):
    """The saver is killed at 50 random moments."""
    moments = random.Random(0)
    confirmed = []
    for number in range(KILLS):
        # A fork starts in no time; an interpreter with all libraries takes seconds.
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _save_until_killed(url, store.images.address, f"run{number}", writer)
        os.close(writer)
        with os.fdopen(reader) as output:
            # The first line comes once it has begun to save.
            first = output.readline()
            time.sleep(moments.uniform(0, 0.06))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            lines = [first, *output]
        # A line without an end was cut off.
        confirmed += [line for line in lines if line.endswith("\n")]
    assert len(confirmed) > KILLS
    check_all_there(store, confirmed)


def _save_until_killed(url: str, address: str, name: str, writer: int) -> None:
    """Save cases in a forked process, which ends only when it is killed."""
    import numpy as np

    from cadlib.images import LesionImage

    try:
        store = CaseStore.open(url, address)
        rng = np.random.default_rng()
        number = 0
        while True:
            pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
            image = LesionImage(pixels, f"{name}-{number}", "PNG")
            case = add_case(store, f"{name}-{number}", image)
            os.write(writer, f"{case.patient.id} {case.image.id}\n".encode())
            number += 1
    finally:
        os._exit(1)


@pytest.fixture
def small_files():
    """Let no file of this process grow beyond a limit, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(n_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def add_patients_until_it_fails(store: CaseStore) -> None:
    for number in range(1000):
        with store.write() as cases:
            cases.add_patient(PatientDetails(f"P-x{number}", note="x" * 4000))


def test_a_full_disk_saves_nothing_of_the_case_and_keeps_the_others(
    tmp_path, small_files, lesion_images
):
    url = f"sqlite:///{tmp_path / 'cases.sqlite'}"
    with CaseStore.open(url, str(tmp_path / "images")) as store:
        first = add_case(store, "P-1", lesion_images[0])
        size = max(path.stat().st_size for path in tmp_path.glob("cases.sqlite*"))
        small_files(size)
        with pytest.raises(CaseStoreFailed, match="Nothing was saved"):
            add_patients_until_it_fails(store)
        small_files(resource.RLIM_INFINITY)
        with store.read() as connection:
            assert verify(connection, store.images).unchanged
            assert queries.patient(connection, first.patient.id) == first.patient
        # The disk has room again.
        add_case(store, "P-2", lesion_images[1])


def test_a_database_that_is_gone_for_a_while_is_used_again(postgresql, tmp_path, lesion_images):
    url = postgresql.new_database()
    with CaseStore.open(url, str(tmp_path / "images")) as store:
        first = add_case(store, "P-1", lesion_images[0])
        postgresql.stop()
        with pytest.raises(CaseStoreFailed, match="Nothing was saved"):
            add_case(store, "P-2", lesion_images[1])
        with pytest.raises(CaseStoreFailed, match="to answer"), store.read():
            pass
        postgresql.start()
        second = add_case(store, "P-2", lesion_images[1])
        cases = [f"{case.patient.id} {case.image.id}" for case in (first, second)]
        check_all_there(store, cases)


def add_while_it_stops(store: CaseStore, server: PostgresqlServer) -> None:
    with store.write() as cases:
        cases.add_patient(PatientDetails("P-2"))
        server.stop()


def test_a_database_that_goes_away_in_the_middle_of_a_save_saves_nothing(
    postgresql, tmp_path, lesion_images
):
    url = postgresql.new_database()
    with CaseStore.open(url, str(tmp_path / "images")) as store:
        first = add_case(store, "P-1", lesion_images[0])
        with pytest.raises(CaseStoreFailed):
            add_while_it_stops(store, postgresql)
        postgresql.start()
        with store.read() as connection:
            assert queries.patients(connection) == [first.patient]
            assert verify(connection, store.images).unchanged
