"""Fetches files from an HTTP server, and resumes after an interruption.

Beside NAME.part lies NAME.part.json: the address of the file, and the server's mark of its version
(RFC 9110, 8.8). A part is resumed only where the server confirms the mark (If-Range, RFC 9110,
13.1.5), so that a changed file is not appended to half of the old one.
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

# The most that an interruption can lose.
_CHUNK_BYTES = 64 * 1024
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
    401: "the server requires a login. Use a mirror that needs none",
    403: "the server refuses it. Check the address, or ask who runs the server",
    404: (
        "there is no such file. Check the address; "
        "https://challenge.isic-archive.com/data/#2019 lists the files"
    ),
    410: "the file was removed. https://challenge.isic-archive.com/data/#2019 has its new address",
}


@dataclass(frozen=True)
class Patience:
    """Timeouts of a server in seconds, and attempts without a byte of progress."""

    connect_s: float = 10.0
    read_s: float = 30.0
    attempts: int = 5
    backoff_s: float = 1.0
    """Pause before the second attempt; it doubles with each further attempt."""


@dataclass(frozen=True)
class Watch:
    """Receivers of reports: `say` gets a line of text, `progress` the bytes of a file."""

    say: Callable[[str], None]
    progress: Progress


@dataclass(frozen=True)
class Remote:
    """The description of a file by its server, before it is fetched.

    `mark` identifies this version: a strong ETag, else the date of its last change, else None.
    `md5` is 32 lower-case hex digits, for a server that is known to send the hash of the content.
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
    """Fetches over HTTP and HTTPS, through the proxy of the environment.

    Its methods raise DownloadFailed. A busy server gets the request again, after the pause it
    demands.
    """

    def __init__(self, patience: Patience = Patience()) -> None:
        retry = Retry(
            total=patience.attempts - 1,
            status_forcelist=_BUSY,
            backoff_factor=patience.backoff_s,
            backoff_max=60,
            retry_after_max=60,
            # The last answer says more than the count of attempts.
            raise_on_status=False,
        )
        self._patience = patience
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def ask(self, url: str) -> Remote:
        """Return the server's description of a file.

        A server that does not support HEAD gets a GET request, whose body is not read.
        """
        with self._answer("HEAD", url) as response:
            if response.status_code not in _NO_HEAD:
                return _remote(url, response)
        with self._answer("GET", url) as response:
            return _remote(url, response)

    def read(
        self,
        url: str,
        limit_bytes: int,
        *,
        missing: tuple[int, ...] = (),
    ) -> bytes | None:
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
                f"Expected at most {limit_bytes:,} bytes at {shown(url)}, but got more. "
                "Check the address, or use another mirror."
            )
        return data

    def fetch(self, remote: Remote, part: Path, progress: Progress) -> None:
        """Fetch a file to `part`, or the rest of it; `progress` counts the bytes.

        When this raises, the bytes received so far stay in `part`, and the next call resumes from
        them. The note beside the part stays until `finish`: a run that is interrupted while it
        checks a complete part does not fetch it again.
        """
        try:
            self._fetch_in_pieces(remote, part, progress)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(
                f"Stopped. {_size_of(part):,} of {remote.size_bytes:,} bytes of {remote.name} "
                f"are saved in {part}. The next start continues from there."
            ) from stop

    def _fetch_in_pieces(
        self,
        remote: Remote,
        part: Path,
        progress: Progress,
    ) -> None:
        furthest = -1
        failures = 0
        while True:
            try:
                return self._fetch_rest(remote, part, progress)
            except requests.RequestException as error:
                size = _size_of(part)
                # Only attempts without progress count.
                if size > furthest:
                    furthest = size
                    failures = 1
                else:
                    failures += 1
                if failures >= self._patience.attempts:
                    raise DownloadFailed(
                        f"Expected {remote.size_bytes:,} bytes of {remote.name}, "
                        f"but the connection ended after {size:,}, {failures} times. "
                        "They are saved: run the command again to continue from there."
                    ) from error
                self._pause(failures)

    def _fetch_rest(
        self,
        remote: Remote,
        part: Path,
        progress: Progress,
    ) -> None:
        n_saved = _usable_bytes(part, remote)
        if n_saved and n_saved == remote.size_bytes:
            return
        headers = {}
        if n_saved:
            headers["Range"] = f"bytes={n_saved}-"
            headers["If-Range"] = remote.mark or ""
        with self._answer("GET", remote.url, headers) as response:
            start = _check_answer(remote, response, n_saved, part)
            # The note has the mark of the answer: the file may have changed since HEAD.
            if start == 0:
                note = _note(remote.url, _mark(response))
                _note_of(part).write_text(note, encoding="utf-8")
            size = _write_part(part, start, response, remote.size_bytes, progress)
        if size != remote.size_bytes:
            # Bytes of another version cannot be continued.
            discard(part)
            actual = f"{size:,}" if size < remote.size_bytes else "more"
            raise DownloadFailed(_other_size(remote, actual))

    def _pause(self, failures: int) -> None:
        time.sleep(self._patience.backoff_s * 2 ** (failures - 1))

    @contextmanager
    def _answer(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[requests.Response]:
        # Sizes and ranges have to be those of the file itself, not of a compressed form.
        all_headers = {"Accept-Encoding": "identity"}
        all_headers.update(headers or {})
        timeout = (self._patience.connect_s, self._patience.read_s)
        try:
            response = self._session.request(
                method,
                url,
                headers=all_headers,
                timeout=timeout,
                stream=True,
                allow_redirects=True,
            )
        except requests.RequestException as error:
            raise DownloadFailed(_unreachable(url, error)) from error
        with response:
            _check_steps(url, response)
            yield response


def _check_steps(url: str, response: requests.Response) -> None:
    """Raise DownloadFailed where a redirect leads from https to another scheme."""
    if not url.startswith("https:"):
        return
    redirects = [step.url for step in response.history]
    last = response.url
    if not all(step.startswith("https:") for step in (*redirects, last)):
        raise DownloadFailed(
            f"Expected {shown(url)} to stay on https, but it leads to {shown(last)}. "
            "Use another mirror."
        )


def _write_part(
    part: Path,
    start: int,
    response: requests.Response,
    size_bytes: int,
    progress: Progress,
) -> int:
    """Write the content of an answer that begins at `start`, and return the bytes up to its end.

    Stop when there are more than `size_bytes`.
    """
    done = start
    with part.open("ab" if start else "wb") as file:
        for chunk in response.iter_content(_CHUNK_BYTES):
            done += file.write(chunk)
            if done > size_bytes:
                break
            progress("bytes", done, size_bytes)
        file.flush()
        # A power cut after the rename must not leave an empty file under the final name.
        os.fsync(file.fileno())
    return done


def check_address(url: str) -> str:
    """Return the address of a folder on a server, ending in a slash.

    Raise DownloadFailed for any other address.
    """
    if not _is_folder_address(url):
        raise DownloadFailed(
            "Expected the address of a folder that begins with http:// or https://, "
            f"but got {url!r}."
        )
    return url if url.endswith("/") else f"{url}/"


def _is_folder_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # Reading the port checks it.
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False
    return not parts.query and not parts.fragment


def shown(url: str) -> str:
    """Return an address as it may be printed: without a user's name, password or signature."""
    parts = urlsplit(url)
    _, _, host = parts.netloc.rpartition("@")
    public = parts._replace(netloc=host, query="", fragment="")
    return public.geturl()


def finish(part: Path, final: Path) -> None:
    """Rename a part that was checked to its final name."""
    part.replace(final)
    note = _note_of(part)
    note.unlink(missing_ok=True)


def discard(part: Path) -> None:
    """Remove a part and the note beside it."""
    part.unlink(missing_ok=True)
    note = _note_of(part)
    note.unlink(missing_ok=True)


def _remote(url: str, response: requests.Response) -> Remote:
    _check_status(url, response)
    length = response.headers.get("Content-Length", "")
    if not length.isdecimal():
        raise DownloadFailed(
            f"Expected the server to state the size of {shown(url)} (Content-Length), "
            "but it does not. "
            "Without it neither the free disk nor the file can be checked: use another mirror."
        )
    return Remote(url, int(length), _mark(response), _md5(url, response))


def _mark(response: requests.Response) -> str | None:
    """Return a strong ETag, else the date of the last change, else None."""
    headers = response.headers
    etag = headers.get("ETag", "")
    # A weak ETag begins with W/.
    if etag.startswith('"'):
        return etag
    return headers.get("Last-Modified")


def _md5(url: str, response: requests.Response) -> str | None:
    """Return the MD5 in an ETag of S3, None where the ETag is no MD5.

    It is one for an object put in one piece, unencrypted or by SSE-S3 (Amazon S3 API reference,
    `Object`); the ETag of an object put in several pieces has a dash. The ETag of other servers
    may be anything.
    """
    if urlsplit(url).hostname != OFFICIAL_HOST:
        return None
    encryption = response.headers.get("x-amz-server-side-encryption", "AES256")
    if encryption != "AES256":
        return None
    etag = response.headers.get("ETag", "").strip('"')
    if not re.fullmatch("[0-9a-f]{32}", etag):
        return None
    return etag


def _check_status(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status != HTTPStatus.OK:
        reason = _STATUSES.get(
            status,
            "the server cannot send it now. Try again later",
        )
        raise DownloadFailed(f"Expected {shown(url)}, but got status {status}: {reason}.")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise DownloadFailed(
            f"Expected {shown(url)} as it is, but the server compresses it. Use another mirror."
        )


def _check_answer(
    remote: Remote,
    response: requests.Response,
    n_saved: int,
    part: Path,
) -> int:
    """Return the offset at which the answer begins: `n_saved`, or 0 for the whole file."""
    is_rest = response.status_code in (
        HTTPStatus.PARTIAL_CONTENT,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    )
    size = remote.size_bytes
    if not n_saved or not is_rest:
        # The server ignored the range, or the file changed: the answer is the whole file.
        _check_status(remote.url, response)
        length = response.headers.get("Content-Length", str(size))
        if length != str(size):
            raise DownloadFailed(_other_size(remote, length))
        return 0
    content_range = response.headers.get("Content-Range")
    if content_range != f"bytes {n_saved}-{size - 1}/{size}":
        discard(part)
        raise DownloadFailed(_other_size(remote, f"{content_range} for the rest"))
    return n_saved


def _other_size(remote: Remote, actual: str) -> str:
    return (
        f"Expected {remote.size_bytes:,} bytes of {remote.name}, "
        f"as the server had stated, but got {actual}. "
        "If the file was just replaced there, run the command again."
    )


def _unreachable(url: str, error: requests.RequestException) -> str:
    # The last kind in _REASONS is the class of all of them.
    reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
    return (
        f"Expected an answer for {shown(url)}, but {reason}. "
        "Check the network and the address, and try again."
    )


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _note(url: str, mark: str | None) -> str:
    return json.dumps({"from": shown(url), "mark": mark})


def _size_of(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _usable_bytes(part: Path, remote: Remote) -> int:
    """Return how many bytes of a part can be resumed: of this address, version and size at most."""
    try:
        note = _note_of(part).read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return 0
    if remote.mark is None or note != _note(remote.url, remote.mark):
        return 0
    size = _size_of(part)
    # A part that is longer than the file is damaged, so it is fetched again from the beginning.
    if size > remote.size_bytes:
        return 0
    return size
