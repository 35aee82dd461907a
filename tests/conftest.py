"""Defines the fixtures that several test files use."""

import gc
import json
import os
import shutil
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

# Two torch processes of two threads crawl on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import msgspec
import pytest
from hypothesis import settings

from cadlib.images.patient import FEATURES
from cadlib.images.synthetic import write_dataset
from cadlib.metrics.operating_point import TARGET_SENSITIVITY, OperatingPoint, PointIntervals
from cadlib.model.metadata import MetadataTrial
from cadlib.model.metadata.changes import METRICS, Difference
from cadlib.model.record import SPLIT_FILE, find_model
from cadlib.taxonomy import CODES
from tests.model_folders import change_record
from tests.tiny_training import graphs_exported_once

if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset

SLOWEST_FILES = (
    "test_training.py",
    "test_pages.py",
    "test_commands.py",
    "test_performance_page.py",
)


def pytest_collection_finish():
    """Exclude all imported modules from garbage collection, which runs several times in each page run."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def setup_of_pages_done_once():
    """Do once what a running app does once, and each page test would repeat."""
    from streamlit.components.v2 import manifest_scanner

    scan = cache(manifest_scanner.scan_component_manifests)
    with pytest.MonkeyPatch.context() as patch:
        # The app excludes more objects after each new data set. A test's objects are to be freed.
        patch.setattr(gc, "freeze", lambda: None)
        patch.setattr(gc, "unfreeze", lambda: None)
        # Streamlit reads the metadata of all installed packages.
        patch.setattr(manifest_scanner, "scan_component_manifests", scan)
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give all tests in a browser to one worker, which starts the browser and its server once."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class BrowserTogether(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            folder = file.rpartition("/")[0]
            return folder if folder.endswith("browser") else file

    return BrowserTogether(config, log)


def pytest_collection_modifyitems(items):
    """Begin with the slowest files, so that at the end no worker waits for another one's file."""

    def place(item):
        if item.path.parent.name == "browser":
            return -1
        name = item.path.name
        return SLOWEST_FILES.index(name) if name in SLOWEST_FILES else len(SLOWEST_FILES)

    items.sort(key=place)


# No test fails because a machine is busy.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real images that the environment names; skip the test where there is none."""
    folder = os.environ.get("CADLIB_DATA")
    if not folder:
        pytest.skip("CADLIB_DATA is not set: no real pictures to test with")
    if not Path(folder).is_dir():
        pytest.skip(f"CADLIB_DATA names {folder}, which is no folder")
    return Path(folder).resolve()


@pytest.fixture(autouse=True)
def clinic_file(tmp_path, monkeypatch) -> Path:
    """Return where a test's clinic is remembered, which is never the user's own."""
    path = tmp_path / "clinic.json"
    monkeypatch.setenv("CADLIB_CLINIC", str(path))
    return path


@pytest.fixture(autouse=True)
def subsets_folder(tmp_path, monkeypatch) -> Path:
    """Return where a test's subsets are saved, which is never the user's own."""
    path = tmp_path / "subsets"
    monkeypatch.setenv("CADLIB_SUBSETS", str(path))
    return path


@pytest.fixture(autouse=True)
def cases_folder(tmp_path, monkeypatch) -> Path:
    """Return where a test's cases are stored, which is never the user's own."""
    monkeypatch.setenv("CADLIB_DATABASE", f"sqlite:///{tmp_path / 'cases.sqlite'}")
    monkeypatch.setenv("CADLIB_CASE_IMAGES", str(tmp_path / "case images"))
    return tmp_path


@pytest.fixture(autouse=True)
def verdicts_folder(tmp_path, monkeypatch) -> Path:
    """Return where a test's verdicts are kept, which are never the user's own."""
    path = tmp_path / "verdicts"
    monkeypatch.setenv("CADLIB_VERDICTS", str(path))
    return path


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    """Return a cache folder of the test's own, in which nothing is stored yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CADLIB_CACHE", str(folder))
    return folder


FEW_DRAWS = 50


def draw_few(patch: pytest.MonkeyPatch) -> None:
    """Compute intervals from 50 draws and gaps from 99 permutations, which takes a twentieth of the time."""
    from cadlib.evaluation import cached
    from cadlib.metrics import decision_curve, subgroup_gaps, summary
    from cadlib.model.metadata import changes

    bootstrap = summary.bootstrap

    def short_bootstrap(groups, draws, seed=0):
        return bootstrap(groups, min(draws, FEW_DRAWS), seed)

    for module in (summary, decision_curve, changes):
        patch.setattr(module, "bootstrap", short_bootstrap)
    gaps = partial(subgroup_gaps.gaps, permutations=99, draws=FEW_DRAWS)
    patch.setattr(cached, "gaps", gaps)


@pytest.fixture
def few_draws(monkeypatch):
    """Draw few samples, in tests whose statement does not depend on their number."""
    draw_few(monkeypatch)


@pytest.fixture(scope="module")
def same_graphs():
    """Export the graph of a network once, for tests of something else."""
    with graphs_exported_once():
        yield


@pytest.fixture(scope="session")
def isic2019_dataset(data_dir, tmp_path_factory):
    """Return the real data set ISIC 2019; skip the test where it is not there.

    The sizes of its 24,000 images are read once for all workers, because this takes many seconds.
    """
    from portalocker import Lock

    from cadlib.data import dataset

    folder = data_dir / "isic2019"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    stored = (base.parent if is_worker else base) / "isic2019-sizes.json"
    with pytest.MonkeyPatch.context() as patch, Lock(stored.with_suffix(".lock"), timeout=150):
        if stored.exists():
            sizes = json.loads(stored.read_text())
            patch.setattr(dataset, "read_size", sizes.__getitem__)
            return dataset.open_dataset(folder, verify=False)
        opened = dataset.open_dataset(folder, verify=False)
        stored.write_text(json.dumps(_sizes(opened)))
        return opened


def _sizes(opened: "Dataset") -> dict[str, tuple[int, int]]:
    """Return the width and height of each image of a data set, by its path."""
    table = opened.table
    sizes = zip(table["width_px"].tolist(), table["height_px"].tolist(), strict=True)
    return dict(zip(table["path"], sizes, strict=True))


@pytest.fixture
def real_sizes(isic2019_dataset, monkeypatch):
    """Give the sizes of the real images to a test that opens the data set again."""
    from cadlib.data import dataset

    monkeypatch.setattr(dataset, "read_size", _sizes(isic2019_dataset).__getitem__)


@pytest.fixture(scope="session")
def model():
    """Return the model of the repository, loaded once."""
    from cadlib.model.model import Model

    return Model.load("isic2019")


@pytest.fixture(scope="session")
def across_damage():
    """Return a function: the robustness of 60 random predictions, for the record of a model."""
    import numpy as np
    from msgspec.structs import asdict

    from cadlib.evaluation import robustness
    from cadlib.metrics.conditions_schema import Robustness, Sample, SplitName
    from cadlib.model import metrics_file

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 60)
    logits = rng.normal(0, 1, (83, 60, 8)) + 2 * np.eye(8)[labels]
    odds = np.exp(logits)
    metrics = robustness.compare(
        labels, odds / odds.sum(axis=-1, keepdims=True), np.arange(60), draws=100
    )

    def robustness_of(record):
        return Robustness(
            model=metrics_file.model_facts(record),
            data=SplitName(name="drawn", split="validation"),
            sample=Sample(of=90, strata="diagnosis and archive", seed=0),
            rejected={},
            **asdict(metrics),
        )

    return robustness_of


@pytest.fixture
def model_folder(tmp_path):
    """Return a copy of the repository's model, which a test may change."""
    return Path(shutil.copytree(find_model("isic2019"), tmp_path / "spoilt"))


@pytest.fixture(scope="session")
def change_once(tmp_path_factory):
    """Return a function that changes a copy of the repository's model. Each change is computed once."""
    templates = {}

    def change(folder, name, edit):
        if name not in templates:
            templates[name] = tmp_path_factory.mktemp("model") / name
            shutil.copytree(folder, templates[name])
            edit(templates[name])
        shutil.copytree(templates[name], folder, dirs_exist_ok=True)
        return folder

    return change


def add_evidence_of_facts(folder):
    """Let a model take age, sex and site, whether or not it was fitted to."""
    codes = dict.fromkeys(FEATURES, (0.0,) * len(CODES))
    evidence = {**codes, "male": (2.0, *[0.0] * 7), "age 90": (0.0, -3.0, *[0.0] * 6)}
    points = [
        OperatingPoint(name, 0.123, 0.95, 0.5, 9, 9, "validation", PointIntervals(None, None))
        for name in TARGET_SENSITIVITY
    ]
    better = {}
    for name, metric in METRICS.items():
        change = 0.1 * metric.direction
        better[name] = Difference(0.5, 0.5 + change, change, change)
    trial = MetadataTrial({"archive A": better}, evidence, tuple(points))
    change_record(folder, {"metadata": msgspec.to_builtins(trial)})


@pytest.fixture
def taught_folder(model_folder, change_once):
    """Return a copy of the repository's model that takes age, sex and site, whatever the original does."""
    return change_once(model_folder, "with-facts", add_evidence_of_facts)


@pytest.fixture
def untaught_folder(model_folder, change_once):
    """Return a copy of the repository's model that takes no facts."""
    return change_once(
        model_folder, "without-facts", lambda folder: change_record(folder, {"metadata": None})
    )


@pytest.fixture
def undetecting_folder(model_folder, change_once):
    """Return a copy of the repository's model without its novelty detector."""
    return change_once(
        model_folder, "without-novelty", lambda folder: change_record(folder, {"novelty": None})
    )


@pytest.fixture(scope="session")
def synthetic_dataset(tmp_path_factory) -> Path:
    """Return a folder of ISIC layout with twelve drawn lesions a class, 64 px a side."""
    return write_dataset(tmp_path_factory.mktemp("data") / "drawn", per_class=12, size_px=64)


@pytest.fixture(scope="session")
def copy_opened():
    """Return a function that copies a data set and returns the copy. Each original is opened once."""
    from cadlib.data.dataset import open_dataset

    opened = {}

    def copy(original, folder):
        if original not in opened:
            opened[original] = open_dataset(original, verify=False)
        shutil.copytree(original, folder)
        table = opened[original].table.copy()
        # Only the paths depend on the folder.
        table["path"] = table["path"].str.replace(str(original), str(folder), regex=False)
        return replace(opened[original], table=table)

    return copy


@pytest.fixture
def data_at_hand(tmp_path, synthetic_dataset, copy_opened, monkeypatch):
    """Return 96 drawn lesions where the pages, or a server that is started now, find them, with an empty cache."""
    monkeypatch.setenv("CADLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    return copy_opened(synthetic_dataset, tmp_path / "data" / "drawn")


@pytest.fixture(scope="session")
def drawn_images(tmp_path_factory) -> Path:
    """Return a folder of ISIC layout with four drawn lesions a class, 96 px a side."""
    return write_dataset(tmp_path_factory.mktemp("data") / "drawn", per_class=4, size_px=96)


@pytest.fixture
def drawn_dataset(tmp_path, drawn_images, copy_opened):
    """Return a copy of the 32 drawn lesions, which a test may change."""
    return copy_opened(drawn_images, tmp_path / "split" / "drawn")


@pytest.fixture(scope="session")
def drawn_model(drawn_images, tmp_path_factory):
    """Return the repository's model with a split of the drawn lesions.

    Of each class, two are to train, one to validate and one to test. The folder is shared.
    `drawn_model_folder` is a copy that a test may change.
    """
    images = sorted(path.stem for path in next(drawn_images.glob("*Input")).iterdir())
    parts = ["train", "train", "validation", "test"] * 8
    rows = [
        f"{image},{100 + group},{part}"
        for group, (image, part) in enumerate(zip(images, parts, strict=True))
    ]
    folder = tmp_path_factory.mktemp("model") / "drawn-split"
    shutil.copytree(find_model("isic2019"), folder)
    (folder / SPLIT_FILE).write_text("\n".join(["image,lesion_group,split", *rows, ""]))
    change_record(folder, {"audit": None}, golden=False)
    return folder


@pytest.fixture
def drawn_model_folder(model_folder, drawn_dataset, drawn_model):
    """Return a copy of the repository's model with a split of the drawn lesions, which a test may change."""
    shutil.copytree(drawn_model, model_folder, dirs_exist_ok=True)
    return model_folder
