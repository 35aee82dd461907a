"""A folder that a reader types is below the one the operator names."""

import pytest

from cadlib.errors import FolderRefused, RunInvalid
from cadlib.files.allowed_folders import folder_below
from cadlib.training import monitor
from cadlib.training.monitor import CURVES_FOLDER, find_runs
from cadlib.ui.datasets import dataset_folders, typed_folder


@pytest.fixture(autouse=True)
def no_switch(monkeypatch):
    monkeypatch.delenv("CADLIB_LOCAL_FOLDERS", raising=False)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data" / "set").mkdir(parents=True)
    (tmp_path / "data-of-another").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize(
    "typed", ["set", "./set", "set/../set", "{root}/set", "{root}", "{root}/missing"]
)
def test_takes_a_folder_below_the_root(root, typed):
    folder = folder_below(typed.format(root=root), root, "CADLIB_DATA")
    assert folder.is_relative_to(root.resolve())


OUTSIDE = (
    "/",
    "/etc",
    "..",
    "set/../..",
    "~",
    "{root}-of-another",
    "{root}/../data-of-another",
    "/missing",
)


@pytest.mark.parametrize("typed", OUTSIDE)
def test_refuses_a_folder_outside_of_the_root(root, typed):
    with pytest.raises(
        FolderRefused, match="Expected a folder below CADLIB_DATA, but found another one"
    ):
        folder_below(typed.format(root=root), root, "CADLIB_DATA")


def test_refuses_a_link_that_leads_out_of_the_root(root, tmp_path):
    (root / "out").symlink_to(tmp_path / "data-of-another")
    with pytest.raises(FolderRefused):
        folder_below("out", root, "CADLIB_DATA")


def test_takes_a_linked_data_set_that_the_page_lists(root, tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_DATA", str(root))
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "ISIC_1.jpg").write_bytes(b"")
    (target / "labels.csv").write_text("image,diagnosis\nISIC_1,NV\n")
    (root / "linked").symlink_to(target)
    listed = str(root / "linked")
    assert dataset_folders() == [listed]
    assert typed_folder(listed) == listed
    with pytest.raises(FolderRefused):
        typed_folder(str(target))


def test_takes_a_root_that_is_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert folder_below("set", tmp_path / "link", "CADLIB_DATA") == (root / "set").resolve()


def test_refuses_every_folder_where_no_root_is_named(root):
    with pytest.raises(FolderRefused, match="which is not set"):
        folder_below(str(root), None, "CADLIB_DATA")


@pytest.mark.parametrize("typed", ["a\0b", "~nobody-of-that-name/x"])
def test_refuses_an_invalid_path(root, typed):
    with pytest.raises(FolderRefused):
        folder_below(typed, root, "CADLIB_DATA")


def test_takes_any_folder_where_the_operator_allows_it(tmp_path, root, monkeypatch):
    monkeypatch.setenv("CADLIB_LOCAL_FOLDERS", "1")
    assert folder_below(str(tmp_path), root, "CADLIB_DATA") == tmp_path


@pytest.mark.parametrize("value", ["0", "", "no"])
def test_the_switch_is_1_and_nothing_else(tmp_path, root, monkeypatch, value):
    monkeypatch.setenv("CADLIB_LOCAL_FOLDERS", value)
    with pytest.raises(FolderRefused):
        folder_below(str(tmp_path), root, "CADLIB_DATA")


def begin(folder):
    (folder / CURVES_FOLDER).mkdir(parents=True)
    (folder / CURVES_FOLDER / "events.out.tfevents.1").touch()


def test_runs_are_searched_a_few_levels_down(tmp_path):
    begin(tmp_path / "a" / "b" / "c")
    begin(tmp_path / "a" / "b" / "c" / "d" / "e")
    assert list(find_runs(tmp_path)) == ["a/b/c"]


def test_the_search_for_runs_does_not_follow_links(tmp_path):
    begin(tmp_path / "elsewhere" / "run")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere")
    assert find_runs(tmp_path / "runs") == {}


def test_the_search_for_runs_ends_in_a_large_tree(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "SEARCHED_FOLDERS", 5)
    for number in range(6):
        (tmp_path / str(number)).mkdir()
    with pytest.raises(RunInvalid, match="more than 5 folders"):
        find_runs(tmp_path)
