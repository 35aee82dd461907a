"""One file from an HTTP server: asked about, fetched, and gone on with after a break.

Beside NAME.part lies NAME.part.json: the address it comes from, and the server's mark of that version of the file
(RFC 9110, 8.8). The part is gone on with only where the server confirms the mark (If-Range, RFC 9110, 13.1.5), so that
a file that changed meanwhile is not glued to half of the old one.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from cadlib.errors import DownloadFailed
from cadlib.progress import Progress

OFFICIAL_HOST = "isic-challenge-data.s3.amazonaws.com"

_CHUNK_BYTES = 64 * 1024  # what a break can lose
_BUSY = (429, 500, 502, 503, 504)
_NO_HEAD = (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
_REASONS = (
    (requests.exceptions.InvalidSchema, "it leads to an address that is not http or https"),
    (requests.exceptions.SSLError, "its certificate cannot be verified"),
    (requests.exceptions.ProxyError, "the proxy between does not let it through"),
    (requests.exceptions.Timeout, "no answer came in time"),
    (requests.exceptions.TooManyRedirects, "it leads in a circle"),
    (requests.exceptions.RequestException, "no connection could be made or kept"),
)
_STATUSES = {
    401: "the server wants a login. Give a mirror that is open to you",
    403: "the server refuses it. Check the address, or ask who runs the server",
    404: "there is no such file. Check the address; https://challenge.isic-archive.com/data/#2019 lists the files",
    410: "the file is gone. See https://challenge.isic-archive.com/data/#2019 for where it is now",
}


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds, and how often it is tried without a byte of progress."""

    connect_s: float = 10.0
    read_s: float = 30.0
    attempts: int = 5
    backoff_s: float = 1.0
    """Before the second attempt; doubles with each further one."""


@dataclass(frozen=True)
class Watch:
    """Where a download tells what it does: `say` a line, `progress` the bytes of a file."""

    say: Callable[[str], None]
    progress: Progress


@dataclass(frozen=True)
class Remote:
    """What a server says of a file before it is fetched.

    `mark` tells this version from others: a strong ETag, else the date of its last change, else nothing. `md5` is 32
    lower-case hex digits, where the server is known to give the hash of the content.
    """

    url: str
    size_bytes: int
    mark: str | None = None
    md5: str | None = None

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return urlsplit(self.url).path.rpartition("/")[2]


class Client:
    """Fetches over HTTP and HTTPS; a proxy is taken from the environment, as with other programs.

    Its methods raise DownloadFailed. A busy server is asked again, after the pause it asks for.
    """

    def __init__(self, patience: Patience = Patience()) -> None:
        retry = Retry(
            total=patience.attempts - 1,
            status_forcelist=_BUSY,
            backoff_factor=patience.backoff_s,
            backoff_max=60,
            retry_after_max=60,
            raise_on_status=False,  # the last answer says more than the count of attempts
        )
        self._patience = patience
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def ask(self, url: str) -> Remote:
        """Return what the server says of a file; one that does not know HEAD is asked by a GET that is broken off."""
        with self._answer("HEAD", url) as response:
            if response.status_code not in _NO_HEAD:
                return _remote(url, response)
        with self._answer("GET", url) as response:
            return _remote(url, response)

    def read(self, url: str, limit_bytes: int, *, missing: tuple[int, ...] = ()) -> bytes | None:
        """Return a small file, or None where the server answers with a status in `missing`."""
        failures = 0
        while True:
            with self._answer("GET", url) as response:
                if response.status_code in missing:
                    return None
                _check_status(url, response)
                try:
                    data = next(response.iter_content(limit_bytes + 1), b"")
                    break
                except requests.RequestException as error:
                    failures += 1
                    if failures >= self._patience.attempts:
                        raise DownloadFailed(_unreachable(url, error)) from error
            self._pause(failures)
        if len(data) > limit_bytes:
            raise DownloadFailed(
                f"Expected at most {limit_bytes:,} bytes at {shown(url)} but more came."
            )
        return data

    def fetch(self, remote: Remote, part: Path, progress: Progress) -> None:
        """Fetch a file to `part`, or the rest of it; `progress` counts the bytes.

        What has come stays there when this raises, so that the next start goes on from it. The note beside the part
        stays until `finish`: a start that is stopped while it checks a whole part does not fetch it again.
        """
        try:
            self._fetch_in_pieces(remote, part, progress)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(
                f"Stopped; {_size_of(part):,} of {remote.size_bytes:,} bytes of {remote.name} are kept in {part}. "
                "The next start goes on from there."
            ) from stop

    def _fetch_in_pieces(self, remote: Remote, part: Path, progress: Progress) -> None:
        furthest, failures = -1, 0
        while True:
            try:
                return self._fetch_rest(remote, part, progress)
            except requests.RequestException as error:
                came = _size_of(part)
                furthest, failures = max(came, furthest), 1 if came > furthest else failures + 1
                if failures >= self._patience.attempts:
                    raise DownloadFailed(
                        f"Expected {remote.size_bytes:,} bytes of {remote.name} but the connection ended after "
                        f"{came:,}, {failures} times. They are kept: run the command again to go on from there."
                    ) from error
                self._pause(failures)

    def _fetch_rest(self, remote: Remote, part: Path, progress: Progress) -> None:
        have = _usable_bytes(part, remote)
        if have and have == remote.size_bytes:
            return
        headers = {"Range": f"bytes={have}-", "If-Range": remote.mark or ""} if have else {}
        with self._answer("GET", remote.url, headers) as response:
            start = _check_answer(remote, response, have, part)
            if start == 0:
                _note_of(part).write_text(_note(remote.url, _mark(response)), encoding="utf-8")
            with part.open("ab" if start else "wb") as file:
                done = start
                for chunk in response.iter_content(_CHUNK_BYTES):
                    done += file.write(chunk)
                    if done > remote.size_bytes:
                        break
                    progress("bytes", done, remote.size_bytes)
                file.flush()
                os.fsync(
                    file.fileno()
                )  # a power cut after the rename must not leave an empty file under its name
        if done != remote.size_bytes:
            discard(part)
            raise DownloadFailed(
                _other_size(remote, f"{done:,} came" if done < remote.size_bytes else "more came")
            )

    def _pause(self, failures: int) -> None:
        time.sleep(self._patience.backoff_s * 2 ** (failures - 1))

    @contextmanager
    def _answer(
        self, method: str, url: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[requests.Response]:
        asked = {
            "Accept-Encoding": "identity",
            **(headers or {}),
        }  # sizes and ranges are those of the file itself
        timeout = (self._patience.connect_s, self._patience.read_s)
        try:
            response = self._session.request(
                method, url, headers=asked, timeout=timeout, stream=True, allow_redirects=True
            )
        except requests.RequestException as error:
            raise DownloadFailed(_unreachable(url, error)) from error
        with response:
            steps = [answer.url for answer in (*response.history, response)]
            if url.startswith("https:") and not all(step.startswith("https:") for step in steps):
                raise DownloadFailed(
                    f"Expected {shown(url)} to stay on https but it leads to {shown(steps[-1])}."
                )
            yield response


def check_address(url: str) -> str:
    """Return the address of a folder on a server, ending in a slash; raise DownloadFailed for anything else."""
    try:
        parts = urlsplit(url)
        valid = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and not (parts.query or parts.fragment)
        )
        _ = parts.port
    except ValueError:
        valid = False
    if not valid:
        raise DownloadFailed(
            f"Expected an address that begins with http:// or https://, and names a folder: {url!r}."
        )
    return url if url.endswith("/") else f"{url}/"


def shown(url: str) -> str:
    """Return an address as it may be printed: without a user's name, password or signature."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def finish(part: Path, final: Path) -> None:
    """Give a part that was checked its final name."""
    part.replace(final)
    _note_of(part).unlink(missing_ok=True)


def discard(part: Path) -> None:
    """Remove a part and the note beside it."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _remote(url: str, response: requests.Response) -> Remote:
    _check_status(url, response)
    length = response.headers.get("Content-Length", "")
    if not length.isdecimal():
        raise DownloadFailed(
            f"Expected the server to say how large {shown(url)} is (Content-Length) but it does not. "
            "Without that, neither the free disk nor the file can be checked: give another mirror."
        )
    return Remote(url, int(length), _mark(response), _md5(url, response))


def _mark(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _md5(url: str, response: requests.Response) -> str | None:
    """Return the MD5 that an ETag of S3 is.

    It is one for an object put in one piece, unencrypted or by SSE-S3 (Amazon S3 API reference, `Object`); the ETag of
    an object put in several pieces has a dash. Other servers make an ETag of what they like.
    """
    etag = response.headers.get("ETag", "").strip('"')
    plain = response.headers.get("x-amz-server-side-encryption", "AES256") == "AES256"
    ours = urlsplit(url).hostname == OFFICIAL_HOST
    return etag if ours and plain and re.fullmatch("[0-9a-f]{32}", etag) else None


def _check_status(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status != HTTPStatus.OK:
        reason = _STATUSES.get(status, "the server cannot give it now. Try again later")
        raise DownloadFailed(f"Expected {shown(url)} but status {status} came: {reason}.")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadFailed(
            f"Expected {shown(url)} as it is but the server packs it. Give another mirror."
        )


def _check_answer(remote: Remote, response: requests.Response, have: int, part: Path) -> int:
    """Return the offset at which the answer begins: `have`, or 0 where the whole file comes anew."""
    if not have or response.status_code not in (
        HTTPStatus.PARTIAL_CONTENT,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    ):
        _check_status(remote.url, response)
        length = response.headers.get("Content-Length", str(remote.size_bytes))
        if length != str(remote.size_bytes):
            raise DownloadFailed(_other_size(remote, f"{length} came"))
        return 0
    if (
        response.headers.get("Content-Range")
        != f"bytes {have}-{remote.size_bytes - 1}/{remote.size_bytes}"
    ):
        discard(part)
        raise DownloadFailed(
            _other_size(remote, f"{response.headers.get('Content-Range')} came for the rest")
        )
    return have


def _other_size(remote: Remote, came: str) -> str:
    return (
        f"Expected {remote.size_bytes:,} bytes of {remote.name}, as the server had said, but {came}. "
        "If the file was just replaced there, run the command again."
    )


def _unreachable(url: str, error: requests.RequestException) -> str:
    reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
    return f"Expected an answer for {shown(url)} but {reason}. Check the network and the address, and try again."


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _note(url: str, mark: str | None) -> str:
    return json.dumps({"from": shown(url), "mark": mark})


def _size_of(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _usable_bytes(part: Path, remote: Remote) -> int:
    """Return how many bytes of a part may be gone on with: of this address, version and at most this size."""
    try:
        note = _note_of(part).read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return 0
    have = _size_of(part)
    known = remote.mark is not None and note == _note(remote.url, remote.mark)
    return have if known and have <= remote.size_bytes else 0
