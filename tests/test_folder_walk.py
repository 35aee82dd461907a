import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadlib.data import folder_walk
from cadlib.data.dataset import find_datasets, open_dataset
from cadlib.data.folder_walk import is_data, list_folder, read_tree
from cadlib.images.synthetic import demo_lesions

DROPPINGS = (
    *(
        ".Trash",
        ".Trash-1000",
        ".ipynb_checkpoints",
        ".git",
        ".snapshot",
        ".DS_Store",
        "._lesion.jpg",
        ".AppleDouble",
    ),
    *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "@tmp", "~snapshot"),
    *("__MACOSX", "Network Trash Folder", "Icon\r", "__pycache__"),
    *(
        "$RECYCLE.BIN",
        "System Volume Information",
        "Thumbs.db",
        "THUMBS.DB",
        "desktop.ini",
        "found.000",
        "FOUND.012",
    ),
    *("lost+found", "LOST.DIR", "~$labels.csv", "lesion.jpg:Zone.Identifier"),
)
DATA = (
    "lesion.jpg",
    "patient 1",
    "found.jpg",
    "recycle",
    "#12",
    "@home",
    "$5.png",
    "~",
    "lost",
    "Thumbs.db.jpg",
    "é",
)


def make_files(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def files(root: Path, depth: int | None = None) -> list[str]:
    return [file.relative_to(root).as_posix() for file in read_tree(root, depth).files]


@pytest.mark.parametrize("name", DROPPINGS)
def test_a_name_that_a_system_left_behind_is_no_data(name):
    assert not is_data(name)


@pytest.mark.parametrize("name", DATA)
def test_a_name_like_that_of_a_dropping_is_data(name):
    assert is_data(name)


@pytest.mark.parametrize("name", DROPPINGS)
def test_nothing_below_a_dropping_is_listed(tmp_path, name):
    make_files(tmp_path, "a/lesion.jpg", f"a/{name}/copy.jpg", f"{name}/deep/copy.jpg")
    assert files(tmp_path) == ["a/lesion.jpg"]


def test_a_folder_with_the_name_of_a_dropping_is_read_when_it_is_the_one_given(tmp_path):
    make_files(tmp_path, ".hidden/a.jpg")
    assert files(tmp_path / ".hidden") == ["a.jpg"]


def test_files_are_sorted_by_path(tmp_path):
    make_files(tmp_path, "b/2.jpg", "b/10.jpg", "a.jpg", "a/z.jpg", "B/1.jpg")
    assert read_tree(tmp_path).files == sorted(tmp_path.rglob("*.jpg"))


def test_links_to_files_and_folders_are_followed_also_out_of_the_folder(tmp_path):
    make_files(tmp_path, "root/own.jpg", "elsewhere/far.jpg", "single.jpg")
    root = tmp_path / "root"
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    (root / "file.jpg").symlink_to(tmp_path / "single.jpg")
    assert files(root) == ["file.jpg", "folder/far.jpg", "own.jpg"]


@pytest.mark.parametrize("target", [".", "..", "../root", "a", "a/b"])
def test_a_circle_of_links_ends_and_lists_each_file_once(tmp_path, target):
    root = make_files(tmp_path / "root", "a/b/x.jpg", "y.jpg")
    (root / "a" / "b" / "loop").symlink_to(root / target)
    assert files(root) == ["a/b/x.jpg", "y.jpg"]


def test_a_folder_is_listed_under_its_own_path_before_a_link_to_it(tmp_path):
    root = make_files(tmp_path, "real/x.jpg")
    (root / "alias").symlink_to(root / "real")
    assert files(root) == ["real/x.jpg"]


def test_a_link_to_a_dropping_is_followed_when_its_own_name_is_data(tmp_path):
    root = make_files(tmp_path, ".store/x.jpg")
    (root / "images").symlink_to(root / ".store")
    assert files(root) == ["images/x.jpg"]


@pytest.mark.parametrize("target", ["gone.jpg", "itself.jpg", "a.jpg/below.jpg"])
def test_a_link_without_a_target_is_reported(tmp_path, target):
    root = make_files(tmp_path, "a.jpg")
    (root / "itself.jpg").symlink_to(root / target)
    tree = read_tree(root)
    assert files(root) == ["a.jpg"]
    (fault,) = tree.faults
    assert (fault.path, fault.kind) == (root / "itself.jpg", "broken link")
    assert fault.reason.endswith("Restore the target or remove the link.")


def test_a_broken_link_with_a_hidden_name_is_not_reported(tmp_path):
    (tmp_path / ".#lock").symlink_to("someone@host.1234")  # as Emacs makes them
    assert read_tree(tmp_path).faults == ()


def test_a_folder_that_cannot_be_read_is_reported_and_the_rest_is_listed(tmp_path, monkeypatch):
    root = make_files(tmp_path, "closed/x.jpg", "open/y.jpg")
    scandir = os.scandir

    def refuses(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(folder_walk.os, "scandir", refuses)
    tree = read_tree(root)
    assert [file.name for file in tree.files] == ["y.jpg"]
    (fault,) = tree.faults
    assert (fault.path, fault.kind) == (root / "closed", "unreadable")
    assert "Permission denied" in fault.reason


def test_a_folder_that_is_not_there_is_a_fault(tmp_path):
    assert [fault.path for fault in read_tree(tmp_path / "gone").faults] == [tmp_path / "gone"]
    assert [fault.path for fault in list_folder(tmp_path / "gone").faults] == [tmp_path / "gone"]


def test_pipes_and_sockets_are_no_files(tmp_path, monkeypatch):
    make_files(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.jpg")
        (tmp_path / "device.jpg").symlink_to("/dev/null")
        assert files(tmp_path) == ["a.jpg"]
        assert read_tree(tmp_path).faults == ()


def test_lists_no_deeper_than_requested(tmp_path):
    root = make_files(tmp_path, "0.jpg", "a/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg")
    assert files(root, 0) == ["0.jpg"]
    assert files(root, 2) == ["0.jpg", "a/1.jpg", "a/b/2.jpg"]


@given(
    folders=st.lists(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), max_size=6
    ),
    links=st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "a", "b", "a/b", "c/a", "gone"])),
        max_size=4,
    ),
)
def test_lists_every_file_once_despite_links(tmp_path_factory, folders, links):
    root = tmp_path_factory.mktemp("tree")
    for folder in folders:
        make_files(root, f"{folder}/x.jpg")
    for number, (name, target) in enumerate(links):
        inside = root / name if (root / name).is_dir() else root
        (inside / f"link{number}").symlink_to(root / target)
    listed = read_tree(root).files
    assert len({file.resolve() for file in listed}) == len(listed)
    assert {file.resolve() for file in listed} == {file.resolve() for file in root.rglob("*.jpg")}
    assert listed == read_tree(root).files == sorted(listed)


@pytest.fixture
def own_set(tmp_path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    for name, lesion in zip("ab", demo_lesions(), strict=False):
        (folder / f"{name}.png").write_bytes(lesion.png())
    (folder / "labels.csv").write_text("image,diagnosis\na,NV\nb,MEL\n")
    return folder


@pytest.mark.parametrize(
    "dropping", ["@eaDir", "__MACOSX", ".Trash", ".ipynb_checkpoints", "#recycle"]
)
def test_a_data_set_takes_no_image_from_a_dropping(own_set, dropping):
    (own_set / dropping).mkdir()
    (own_set / dropping / "a.png").write_bytes(demo_lesions()[2].png())
    (own_set / dropping / "._b.png").write_bytes(b"resource fork")
    (own_set / dropping / "labels.csv").write_text("image,diagnosis\na,BCC\n")
    dataset = open_dataset(own_set)
    assert dataset.table["image"].tolist() == ["a", "b"]
    assert dataset.report.mismatches == ()


def test_a_lock_of_a_spreadsheet_is_no_table_of_a_data_set(own_set):
    (own_set / "~$labels.csv").write_text("image,diagnosis\na,BCC\n")
    assert open_dataset(own_set).report.mismatches == ()


def test_a_data_set_reports_broken_links(own_set):
    (own_set / "gone.png").symlink_to(own_set / "nowhere.png")
    dataset = open_dataset(own_set)
    assert dataset.table["image"].tolist() == ["a", "b"]
    assert dataset.report.count("broken links") == 1


def test_a_data_set_follows_links_and_ends_on_circles(own_set, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (own_set / "labels.csv").rename(tmp_path / "labels.csv")
    (linked / "labels.csv").symlink_to(tmp_path / "labels.csv")
    (linked / "images").symlink_to(own_set)
    (linked / "loop").symlink_to(linked)
    dataset = open_dataset(linked)
    assert dataset.table["image"].tolist() == ["a", "b"]
    assert dataset.report.mismatches == ()


def test_a_challenge_set_takes_no_table_that_macos_left_behind(synthetic_dataset, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for path in synthetic_dataset.iterdir():
        name = path.name.replace("GroundTruth", "Labels_GroundTruth")
        (folder / name).symlink_to(path)
        if path.is_file():
            (folder / f"._{name}").write_bytes(b"\0\5\x16\7")
    assert len(open_dataset(folder, verify=False).table) == len(
        open_dataset(synthetic_dataset, verify=False).table
    )


def test_data_sets_are_found_once_in_spite_of_links_and_not_in_droppings(own_set, tmp_path):
    (tmp_path / "again").symlink_to(own_set)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "$RECYCLE.BIN").mkdir()
    (own_set.rename(tmp_path / "$RECYCLE.BIN" / "old"))
    assert find_datasets(tmp_path) == []
    (tmp_path / "$RECYCLE.BIN" / "old").rename(own_set)
    assert find_datasets(tmp_path) == [own_set]
