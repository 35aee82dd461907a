"""The four files of ISIC 2019, from ISIC's own server or from a mirror, into a folder in ISIC's layout.

ISIC publishes no hash of them. What is checked: the size the server states, the MD5 where S3 gives one, the SHA-256
where a mirror's SHA256SUMS gives one, that a table has its rows and a zip its pictures, and every CRC-32 in a zip.
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
from cadlib.progress import named
from cadlib.taxonomy import CODES

ADDRESS = f"https://{OFFICIAL_HOST}/2019/"

_MAX_SUMS_BYTES = 1 << 20
_NOT_THERE = (403, 404, 410)  # S3 answers 403 for what is missing, where it does not list


@dataclass(frozen=True)
class OfficialFile:
    """A file as ISIC hands it out: a zip of `count` pictures, or a table of `count` rows with some of `columns`."""

    name: str
    count: int
    columns: tuple[str, ...] = ()
    sha256: str | None = None

    @property
    def zipped(self) -> bool:
        """Tell a zip from a table."""
        return self.name.endswith(".zip")

    @property
    def result(self) -> str:
        """Return the name of what is left of it in the data set: the table, or the folder of pictures."""
        return self.name.removesuffix(".zip")


OFFICIAL = (
    OfficialFile("ISIC_2019_Training_Metadata.csv", 25_331, METADATA_COLUMNS),
    OfficialFile("ISIC_2019_Training_GroundTruth.csv", 25_331, CODES),
    OfficialFile("ISIC_2019_Training_Input.zip", 25_331),
    OfficialFile("ISIC_2019_Test_Input.zip", 8_238),
)
"""Small ones first, so that a wrong address shows at once. Counts: https://challenge.isic-archive.com/data/#2019."""


@dataclass(frozen=True)
class _Order:
    """What is still to be done for a file: fetch it from `remote`, or only unpack the zip that is there."""

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
    """Make `folder` hold the whole data set; what is there and whole is left alone.

    A zip is deleted once it is unpacked, for the pictures take as much disk again (9 GB the training set), unless
    `keep_zip`; one that somebody else put there is never deleted. The SHA-256 of what was fetched goes into
    SHA256SUMS, so that the folder can be compared with another, or serve as a mirror.

    Raises DownloadFailed, and leaves what came so far for the next start.
    """
    address = check_address(mirror or ADDRESS)
    missing = [file for file in files if not _is_whole(folder, file, watch)]
    if not missing:
        watch.say(f"Nothing to fetch: {folder} holds the whole data set.")
        return
    client = client or Client()
    known = _known_sums(client, address, watch) if mirror else {}
    orders = [_order(client, folder, address, file, known) for file in missing]
    _check_disk(folder, orders, keep_zip=keep_zip)
    for order in orders:
        if order.remote:
            _fetch(client, folder, order, order.remote, watch)
        if order.file.zipped:
            _unpack(folder, order, watch, keep_zip=keep_zip)


def _is_whole(folder: Path, file: OfficialFile, watch: Watch) -> bool:
    """Tell whether the table or the folder of pictures is there; raise when it is there but is something else."""
    path = folder / file.result
    if not path.exists():
        return False
    try:
        recorded = None if file.zipped else recorded_sums(folder).get(file.name)
        if file.zipped:
            _check_count(file, _count_pictures(path), str(path))
        elif recorded:
            _check_hash(str(path), recorded, hash_file(path, lambda *_: None).sha256)
        else:
            _check_table(file, path)
    except DownloadFailed as error:
        raise DownloadFailed(
            f"{error} Move it away to fetch it again, or give another folder."
        ) from error
    watch.say(f"{file.result} is there and whole: left alone.")
    return True


def _known_sums(client: Client, mirror: str, watch: Watch) -> dict[str, str]:
    url = f"{mirror}{SUMS_FILE}"
    data = client.read(url, _MAX_SUMS_BYTES, missing=_NOT_THERE)
    if data is None:
        watch.say(
            f"The mirror has no {SUMS_FILE}: what it hands out cannot be compared with a known hash."
        )
        return {}
    return read_sums(data.decode("utf-8", errors="replace"), shown(url))


def _order(
    client: Client, folder: Path, address: str, file: OfficialFile, known: Mapping[str, str]
) -> _Order:
    mirrored = known.get(file.name)
    if file.sha256 and mirrored and file.sha256 != mirrored:
        raise DownloadFailed(
            f"Expected SHA-256 {file.sha256} of {file.name} but the mirror states {mirrored}."
        )
    there = file.zipped and (folder / file.name).exists()
    return _Order(
        file, file.sha256 or mirrored, None if there else client.ask(f"{address}{file.name}")
    )


def _check_disk(folder: Path, orders: Sequence[_Order], *, keep_zip: bool) -> None:
    """Raise unless the disk can hold the most there will be at any time, pictures counted as large as their zip."""
    used = most = 0
    for order in orders:
        zip_bytes = (
            order.remote.size_bytes if order.remote else (folder / order.file.name).stat().st_size
        )
        part = folder / f"{order.file.name}.part"
        used += (
            max(0, zip_bytes - (part.stat().st_size if part.exists() else 0)) if order.remote else 0
        )
        most = max(most, used + (zip_bytes if order.file.zipped else 0))
        used += zip_bytes if order.file.zipped and keep_zip else 0
    check_free(folder, most)


def _fetch(client: Client, folder: Path, order: _Order, remote: Remote, watch: Watch) -> None:
    file, part = order.file, folder / f"{order.file.name}.part"
    client.fetch(remote, part, named(watch.progress, file.name))
    with _set_aside_if_refused(part, folder / file.name):
        hashes = hash_file(part, named(watch.progress, f"checking {file.name}"))
        _check_hash(file.name, order.sha256, hashes.sha256)
        _check_hash(file.name, remote.md5, hashes.md5)
        if file.zipped:
            _check_count(file, inspect(part).pictures, file.name)
        else:
            _check_table(file, part)
    finish(part, folder / file.name)
    record_sum(folder, file.name, hashes.sha256)
    watch.say(f"{hashes.sha256}  {file.name}")


def _unpack(folder: Path, order: _Order, watch: Watch, *, keep_zip: bool) -> None:
    file, path = order.file, folder / order.file.name
    ours = order.remote is not None
    with _set_aside_if_refused(path, path):
        if not ours:
            sha256 = hash_file(path, named(watch.progress, f"checking {file.name}")).sha256
            _check_hash(file.name, order.sha256, sha256)
            ours = sha256 == recorded_sums(folder).get(file.name)  # fetched by an earlier start
        contents = inspect(path)
        _check_count(file, contents.pictures, file.name)
    check_free(folder, contents.size_bytes)
    with _set_aside_if_refused(path, path):
        extract(
            path, contents, folder / file.result, named(watch.progress, f"unpacking {file.name}")
        )
    watch.say(f"{file.result}: {contents.pictures:,} pictures.")
    if ours and not keep_zip:
        path.unlink()


@contextmanager
def _set_aside_if_refused(path: Path, final: Path) -> Iterator[None]:
    """Keep a file that is not what it should be under a name that nobody takes for it, and say so."""
    try:
        yield
    except DownloadFailed as error:
        refused = final.with_name(f"{final.name}.refused")
        path.replace(refused)
        discard(final.with_name(f"{final.name}.part"))
        raise DownloadFailed(
            f"{error} It was not used and is kept as {refused} for a look. Run the command again to fetch it anew, "
            "or take another mirror."
        ) from error


def _check_hash(name: str, expected: str | None, came: str) -> None:
    if expected and expected != came:
        raise DownloadFailed(f"Expected the hash {expected} of {name} but came {came}.")


def _check_count(file: OfficialFile, came: int, where: str) -> None:
    if came != file.count:
        kind = "pictures" if file.zipped else "rows"
        raise DownloadFailed(f"Expected {file.count:,} {kind} in {where} but {came:,} came.")


def _check_table(file: OfficialFile, path: Path) -> None:
    try:
        rows = len(read_csv(path, file.columns))
    except DatasetInvalid as error:
        raise DownloadFailed(str(error)) from error
    _check_count(file, rows, file.name)


def _count_pictures(folder: Path) -> int:
    if not folder.is_dir():
        raise DownloadFailed(f"Expected a folder of pictures at {folder} but there is a file.")
    return sum(
        path.suffix.lower() in SUPPORTED_SUFFIXES
        for path in folder.iterdir()
        if not path.name.startswith(".")
    )
