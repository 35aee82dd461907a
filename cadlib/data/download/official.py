"""Downloads the four files of ISIC 2019.

They come from ISIC's own server or from a mirror. ISIC publishes no hashes. The checks are: the
size that the server states, the MD5 where S3 sends one, the SHA-256 where a mirror's SHA256SUMS has
one, the rows of a table, the images of a zip, and every CRC-32 in a zip.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cadlib.data.download.checksums import (
    SUMS_FILE,
    hash_file,
    read_sums,
    record_sum,
    recorded_sums,
)
from cadlib.data.download.client import (
    OFFICIAL_HOST,
    Client,
    Remote,
    Watch,
    check_address,
    discard,
    finish,
    shown,
)
from cadlib.data.download.disk import check_free
from cadlib.data.download.unpack import extract, inspect
from cadlib.data.isic_csv import METADATA_COLUMNS
from cadlib.data.layouts.table_file import read_csv
from cadlib.errors import DatasetInvalid, DownloadFailed
from cadlib.images import SUPPORTED_SUFFIXES
from cadlib.progress import named, no_progress
from cadlib.taxonomy import CODES

ADDRESS = f"https://{OFFICIAL_HOST}/2019/"

# A few lines are expected; a server must not fill the memory with another file.
_MAX_SUMS_BYTES = 1 << 20
# S3 answers 403 for a missing file where it does not allow listing.
_NOT_THERE = (403, 404, 410)


@dataclass(frozen=True)
class OfficialFile:
    """A file of ISIC: a zip of `count` images, or a table of `count` rows.

    A table has some of `columns`.
    """

    name: str
    count: int
    columns: tuple[str, ...] = ()
    sha256: str | None = None

    @property
    def zipped(self) -> bool:
        """Return whether the file is a zip, not a table."""
        return self.name.endswith(".zip")

    @property
    def result(self) -> str:
        """Return the name of its result in the data set: the table, or the folder of images."""
        return self.name.removesuffix(".zip")


OFFICIAL = (
    OfficialFile("ISIC_2019_Training_Metadata.csv", 25_331, METADATA_COLUMNS),
    OfficialFile("ISIC_2019_Training_GroundTruth.csv", 25_331, CODES),
    OfficialFile("ISIC_2019_Training_Input.zip", 25_331),
    OfficialFile("ISIC_2019_Test_Input.zip", 8_238),
)
"""Small files first, so that a wrong address is noticed at once.

Counts: https://challenge.isic-archive.com/data/#2019.
"""


@dataclass(frozen=True)
class _Order:
    """The work left for a file: fetch it from `remote`, or only unpack the zip in the folder."""

    file: OfficialFile
    sha256: str | None
    remote: Remote | None


def download_official(
    folder: Path,
    watch: Watch,
    *,
    mirror: str | None = None,
    keep_zip: bool = False,
    files: Sequence[OfficialFile] = OFFICIAL,
    client: Client | None = None,
) -> None:
    """Download the missing files of the data set into `folder`; complete files are left alone.

    A zip is deleted once it is unpacked, because the images need the same space again (9 GB for the
    training set), unless `keep_zip`. A zip that the user put there is never deleted. The SHA-256 of
    each fetched file is written into SHA256SUMS, so that the folder can be compared with another
    one, or serve as a mirror.

    Raise DownloadFailed, and leave the bytes received so far for the next run.
    """
    address = check_address(mirror or ADDRESS)
    missing = [file for file in files if not _is_whole(folder, file, watch)]
    if not missing:
        watch.say(f"Nothing to download: {folder} has the whole data set.")
        return
    client = client or Client()
    sums: Mapping[str, str] = {}
    if mirror:
        sums = _mirror_sums(client, address, watch)
    # All addresses and the disk are checked before the first byte: a run takes hours.
    orders = [_order(client, folder, address, file, sums) for file in missing]
    _check_disk(folder, orders, keep_zip=keep_zip)
    for order in orders:
        if order.remote:
            _fetch(client, folder, order, order.remote, watch)
        if order.file.zipped:
            _unpack(folder, order, watch, keep_zip=keep_zip)


def _is_whole(folder: Path, file: OfficialFile, watch: Watch) -> bool:
    """Return whether the table or the folder of images is there; raise when it is another one."""
    path = folder / file.result
    if not path.exists():
        return False
    try:
        _check_result(folder, file, path)
    except DownloadFailed as error:
        raise DownloadFailed(
            f"{error} Move it to another folder to download it again, or use another folder."
        ) from error
    watch.say(f"{file.result} is complete and is not changed.")
    return True


def _check_result(folder: Path, file: OfficialFile, path: Path) -> None:
    """Raise DownloadFailed unless `path` is the complete table or folder of images."""
    if file.zipped:
        _check_count(file, _count_images(path), str(path))
        return
    recorded = recorded_sums(folder).get(file.name)
    # A hash also shows a changed cell; without one only the rows can be counted.
    if recorded:
        hashes = hash_file(path, no_progress)
        _check_hash(str(path), recorded, hashes.sha256)
    else:
        _check_table(file, path)


def _mirror_sums(
    client: Client,
    mirror: str,
    watch: Watch,
) -> dict[str, str]:
    """Return the SHA-256 of the files of a mirror by name; empty where it has no SHA256SUMS."""
    url = f"{mirror}{SUMS_FILE}"
    data = client.read(url, _MAX_SUMS_BYTES, missing=_NOT_THERE)
    if data is None:
        watch.say(f"The mirror has no {SUMS_FILE}: its files cannot be compared with a known hash.")
        return {}
    text = data.decode("utf-8", errors="replace")
    return read_sums(text, shown(url))


def _order(
    client: Client,
    folder: Path,
    address: str,
    file: OfficialFile,
    sums: Mapping[str, str],
) -> _Order:
    mirrored = sums.get(file.name)
    # Before the download: one of the two would refuse the file after hours.
    if file.sha256 and mirrored and file.sha256 != mirrored:
        raise DownloadFailed(
            f"Expected SHA-256 {file.sha256} of {file.name}, "
            f"but the mirror states {mirrored}. Use another mirror."
        )
    sha256 = file.sha256 or mirrored
    if file.zipped and (folder / file.name).exists():
        return _Order(file, sha256, None)
    remote = client.ask(f"{address}{file.name}")
    return _Order(file, sha256, remote)


def _check_disk(
    folder: Path,
    orders: Sequence[_Order],
    *,
    keep_zip: bool,
) -> None:
    """Raise DownloadFailed unless the disk has room for the largest use at any time.

    The images of a zip count as many bytes as the zip itself.
    """
    used = 0
    most = 0
    for order in orders:
        name = order.file.name
        if order.remote:
            file_bytes = order.remote.size_bytes
            part = folder / f"{name}.part"
            # An earlier run has taken this space already.
            part_bytes = part.stat().st_size if part.exists() else 0
            used += max(0, file_bytes - part_bytes)
        else:
            zip_path = folder / name
            file_bytes = zip_path.stat().st_size
        unpacked_bytes = file_bytes if order.file.zipped else 0
        most = max(most, used + unpacked_bytes)
        # Without `keep_zip` the images replace their zip.
        if keep_zip:
            used += unpacked_bytes
    check_free(folder, most)


def _fetch(
    client: Client,
    folder: Path,
    order: _Order,
    remote: Remote,
    watch: Watch,
) -> None:
    """Fetch one file, check it and give it its final name."""
    file = order.file
    final = folder / file.name
    part = folder / f"{file.name}.part"
    client.fetch(remote, part, named(watch.progress, file.name))
    checking = named(watch.progress, f"checking {file.name}")
    with _set_aside_if_refused(part, final):
        hashes = hash_file(part, checking)
        sha256 = hashes.sha256
        _check_hash(file.name, order.sha256, sha256)
        _check_hash(file.name, remote.md5, hashes.md5)
        if file.zipped:
            contents = inspect(part)
            _check_count(file, contents.images, file.name)
        else:
            _check_table(file, part)
    finish(part, final)
    # Only now, so that no hash stands for a file that was refused.
    record_sum(folder, file.name, sha256)
    watch.say(f"{sha256}  {file.name}")


def _unpack(
    folder: Path,
    order: _Order,
    watch: Watch,
    *,
    keep_zip: bool,
) -> None:
    """Check and unpack a zip, and delete it if it was downloaded and `keep_zip` is false."""
    file = order.file
    path = folder / file.name
    was_downloaded = order.remote is not None
    with _set_aside_if_refused(path, path):
        if not was_downloaded:
            checking = named(watch.progress, f"checking {file.name}")
            hashes = hash_file(path, checking)
            _check_hash(file.name, order.sha256, hashes.sha256)
            # An earlier run may have downloaded it.
            recorded = recorded_sums(folder).get(file.name)
            was_downloaded = hashes.sha256 == recorded
        contents = inspect(path)
        _check_count(file, contents.images, file.name)
    check_free(folder, contents.size_bytes)
    progress = named(watch.progress, f"unpacking {file.name}")
    with _set_aside_if_refused(path, path):
        extract(path, contents, folder / file.result, progress)
    watch.say(f"{file.result}: {contents.images:,} images.")
    if was_downloaded and not keep_zip:
        path.unlink()


@contextmanager
def _set_aside_if_refused(path: Path, final: Path) -> Iterator[None]:
    """Rename a refused file, so that nobody uses it, and name it in the error."""
    try:
        yield
    except DownloadFailed as error:
        refused = final.with_name(f"{final.name}.refused")
        path.replace(refused)
        discard(final.with_name(f"{final.name}.part"))
        raise DownloadFailed(
            f"{error} The file was not used; it is now {refused}. "
            "Run the command again to repeat the download, or use another mirror."
        ) from error


def _check_hash(name: str, expected: str | None, actual: str) -> None:
    if expected and expected != actual:
        raise DownloadFailed(f"Expected the hash {expected} of {name}, but got {actual}.")


def _check_count(file: OfficialFile, count: int, where: str) -> None:
    if count != file.count:
        kind = "images" if file.zipped else "rows"
        raise DownloadFailed(f"Expected {file.count:,} {kind} in {where}, but found {count:,}.")


def _check_table(file: OfficialFile, path: Path) -> None:
    try:
        rows = len(read_csv(path, file.columns))
    except DatasetInvalid as error:
        raise DownloadFailed(str(error)) from error
    _check_count(file, rows, file.name)


def _count_images(folder: Path) -> int:
    if not folder.is_dir():
        raise DownloadFailed(f"Expected a folder of images at {folder}, but it is a file.")
    count = 0
    for path in folder.iterdir():
        # macOS writes hidden files beside images, with the same suffix.
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in SUPPORTED_SUFFIXES:
            count += 1
    return count
