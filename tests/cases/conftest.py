"""Defines the stores and cases that tests of the case store use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cadlib.assessment import Assessment, assess
from cadlib.cases.store import CaseStore
from cadlib.images import LesionImage, read_image
from cadlib.images.synthetic import demo_lesions
from cadlib.model.model import Model
from tests.postgresql_server import PostgresqlServer, find_binaries


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    binaries = find_binaries()
    if binaries is None:
        if os.environ.get("CI"):
            pytest.fail("Expected PostgreSQL in CI. Install it: apt-get install postgresql.")
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    server = PostgresqlServer(binaries)
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'cases.sqlite'}"
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.new_database()


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[CaseStore]:
    """Return an empty store."""
    store = CaseStore.open(url, str(tmp_path / "images"))
    yield store
    store.close()


@pytest.fixture(scope="session")
def lesion_images() -> list[LesionImage]:
    """Return a few synthetic lesions."""
    return [read_image(lesion.png()) for lesion in demo_lesions()[:3]]


@pytest.fixture(scope="session")
def assessment(model: Model, lesion_images: list[LesionImage]) -> Assessment:
    """Return the assessment of the first image."""
    return assess(model, lesion_images[0])
