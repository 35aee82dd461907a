"""The import rule: which module may know which. Read from the source, so that lazy imports count too."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from cadlib.taxonomy import CODES

ROOT = Path(__file__).parents[1]
PAGES = ("diagnose", "saliency", "dataset", "performance", "training")
MAX_PAGE_LINES = 120

TORCH_FREE = {
    "audit_sheet",
    "background",
    "cache",
    "calibration",
    "card",
    "catalogue",
    "card.conditions",
    "card.neighbours",
    "card.novelty",
    "clinic",
    "card.saliency",
    "cells",
    "channel_order",
    "comparison",
    "comparison_table",
    "confined",
    "corruptions",
    "corruptions.camera",
    "corruptions.drawn",
    "counts",
    "curves",
    "dataset",
    "decision",
    "download",
    "download.checksums",
    "download.client",
    "download.disk",
    "download.official",
    "download.sample",
    "download.unpack",
    "duplicates",
    "engine",
    "errors",
    "figures",
    "figures.bars",
    "figures.compared",
    "figures.hundred",
    "figures.map",
    "figures.matrices",
    "figures.measured",
    "figures.reliabilities",
    "figures.style",
    "figures.training",
    "figures.thresholds",
    "findings",
    "gaps",
    "grouping",
    "history",
    "identity",
    "image_ids",
    "hints",
    "holding",
    "images",
    "images.channels",
    "images.bmp",
    "images.colour",
    "images.decode_file",
    "images.decoding",
    "images.deflated",
    "images.dicom",
    "images.dicom_facts",
    "images.files",
    "images.kinds",
    "images.lesion_image",
    "images.limits",
    "images.pixel_memory",
    "images.pool",
    "images.profiles",
    "images.protocol",
    "images.watchdog",
    "images.worker",
    "images.dicom_frames",
    "images.forms",
    "images.jpeg",
    "images.lzw",
    "images.png",
    "images.tiff",
    "images.webp",
    "isic_csv",
    "labelled",
    "layouts",
    "layouts.columns",
    "layouts.label_columns",
    "layouts.one_table",
    "layouts.table_file",
    "layouts.terms",
    "likeness",
    "manifest",
    "memory",
    "metadata",
    "metadata.evidence",
    "metadata.fitting",
    "metadata.trial",
    "metrics",
    "net_benefit",
    "neighbours",
    "neighbours.agreement",
    "neighbours.fingerprint",
    "neighbours.index",
    "novelty",
    "novelty.appearance",
    "own_figures",
    "own_split",
    "part",
    "partial_labels",
    "point_table",
    "patient",
    "pixels",
    "predictions",
    "predictive_values",
    "preprocess",
    "projection",
    "quality",
    "quality.channels",
    "quality.figures",
    "quiet",
    "readahead",
    "record",
    "record_schema",
    "report",
    "report.sections",
    "runs",
    "sampling",
    "server",
    "server.guard",
    "server.headers",
    "server.sessions",
    "server.stack",
    "server.uploads",
    "splits",
    "spreadsheets",
    "subgroup_table",
    "subsets",
    "summary",
    "suspects",
    "suspects.cleaning",
    "suspects.labels",
    "suspects.lists",
    "suspects.pairs",
    "suspects.verdicts",
    "synthetic",
    "synthetic.drawing",
    "synthetic.lesions",
    "synthetic.samples",
    "tables",
    "taxonomy",
    "threshold_curves",
    "thumbnails",
    "trade_off",
    "train_config",
    "typed_json",
    "ui.harmless",
    "ui.runs",
    "ui.text",
    "validation",
    "walk",
    "weights",
}
MAY_USE_TORCH = {
    "__init__",
    "__main__",
    "across",
    "assessment",
    "audit",
    "augment",
    "checkpoint",
    "commands",
    "commands.across",
    "commands.audit",
    "commands.bars",
    "commands.calibrate",
    "commands.download",
    "commands.evaluate",
    "commands.index",
    "commands.model",
    "commands.overlay_names",
    "commands.predict",
    "commands.report",
    "commands.robustness",
    "commands.sampled",
    "commands.saliency",
    "commands.settings",
    "commands.streams",
    "commands.suspects",
    "commands.train",
    "commands.usage",
    "evaluated",
    "evaluation",
    "export",
    "features",
    "faithfulness",
    "golden",
    "gradients",
    "migration",
    "model",
    "neighbours.fitting",
    "network",
    "novelty.fitting",
    "packing",
    "pretrained",
    "readout",
    "reference",
    "robustness",
    "run",
    "saliency",
    "sanity",
    "stability",
    "suspects.finding",
    "training",
    "training_data",
    "trust",
    "ui",
    "ui.browse",
    "ui.browse.catalogues",
    "ui.browse.facets",
    "ui.browse.gallery",
    "ui.browse.labels",
    "ui.browse.mapped",
    "ui.browse.selection",
    "ui.channels",
    "ui.clinic",
    "ui.datasets",
    "ui.evidence",
    "ui.figures_of",
    "ui.frame",
    "ui.gallery",
    "ui.garbage",
    "ui.held",
    "ui.imagemap",
    "ui.images_behind",
    "ui.lost",
    "ui.models",
    "ui.neighbours",
    "ui.patient",
    "ui.pictures",
    "ui.quality",
    "ui.report",
    "ui.session",
    "ui.strip",
    "ui.suspects",
    "ui.subgroups",
    "ui.threshold",
    "ui.tiles",
    "ui.versus",
    "ui.viewer",
    "ui.working",
    "ui.worklist",
    "verification",
    "ui.trust",
}
TORCH_KIND = {"torch", "torchvision", "timm", "pytorch_grad_cam", "lightning_fabric"}
MODULES = sorted(TORCH_FREE | MAY_USE_TORCH)


def source(name: str) -> Path:
    """Return the file of a module, named by its dots below cadlib; a folder's is its __init__.py."""
    path = ROOT.joinpath("cadlib", *name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def page(name: str) -> Path:
    return ROOT / "pages" / f"{name}.py"


@cache
def imported(path: Path) -> set[str]:
    """Return the dotted name of everything a file imports, at its top or inside a function."""
    return set(_imported(ast.parse(path.read_text(encoding="utf-8"), path)))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "Expected `from cadlib import …`, not a relative import."
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def cadlib_modules(path: Path) -> set[str]:
    """Return the modules of cadlib that a file imports, without those only named for the type checker."""
    tree = ast.parse(path.read_text(encoding="utf-8"), path)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            node.body = []
    return {_module(name) for name in _imported(tree) if name.startswith("cadlib.")}


def _module(name: str) -> str:
    """Return the module that "cadlib.saliency.explain" is of; "__init__" for `from cadlib import Model`."""
    parts = name.split(".")[1:]
    candidates = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((candidate for candidate in candidates if candidate in MODULES), "__init__")


def test_every_module_is_on_one_side_of_the_torch_rule():
    paths = sorted((ROOT / "cadlib").rglob("*.py"))
    assert paths == sorted(map(source, MODULES))
    assert not TORCH_FREE & MAY_USE_TORCH


@pytest.mark.parametrize("name", sorted(TORCH_FREE))
def test_a_torch_free_module_names_no_torch(name):
    assert packages(source(name)).isdisjoint(TORCH_KIND)
    assert "safetensors.torch" not in {imp.rpartition(".")[0] for imp in imported(source(name))}


def test_importing_the_torch_free_modules_loads_no_torch():
    names = ", ".join(f"cadlib.{name}" for name in sorted(TORCH_FREE))
    code = f"import sys, {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", MODULES)
def test_streamlit_is_known_to_ui_and_server_alone(name):
    assert "streamlit" not in packages(source(name)) or name.startswith(("ui.", "server"))


def test_the_modules_of_cadlib_import_each_other_in_one_direction():
    graph = {name: cadlib_modules(source(name)) for name in MODULES}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert order.index("taxonomy") < order.index("model") < order.index("assessment") < order.index("ui")


@pytest.mark.parametrize("name", ["errors", "taxonomy"])
def test_what_everything_rests_on_rests_on_nothing(name):
    assert cadlib_modules(source(name)) == set()


@pytest.mark.parametrize("name", MODULES)
def test_cadlib_knows_no_page(name):
    assert packages(source(name)).isdisjoint({"app", "menu", "pages", "tests"})


def test_the_pages_are_the_known_ones():
    assert {path.stem for path in (ROOT / "pages").glob("*.py")} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_short_and_leaves_arrays_to_cadlib(name):
    lines = page(name).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_PAGE_LINES
    assert packages(page(name)) <= {"cadlib", "streamlit"} | sys.stdlib_module_names


def test_the_app_alone_starts_and_knows_no_page():
    assert packages(ROOT / "app.py") <= {"cadlib", "streamlit"} | sys.stdlib_module_names


def test_the_menu_has_no_logic():
    tree = ast.parse((ROOT / "menu.py").read_text(encoding="utf-8"))
    assert packages(ROOT / "menu.py") <= {"cadlib", "streamlit"}
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.If, ast.For, ast.While, ast.Try))]


@pytest.mark.parametrize(
    "path",
    [ROOT / "app.py", ROOT / "menu.py", *map(page, PAGES), *map(source, MODULES)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_order_of_the_diagnoses_is_written_in_taxonomy_alone(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), path)):
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            codes = {item.value for item in node.elts if isinstance(item, ast.Constant)} & set(CODES)
            assert len(codes) < len(CODES), f"line {node.lineno} lists the codes; take taxonomy.CODES"
