"""Downloads from a local server that breaks connections, states wrong sizes and sends hostile files."""

import hashlib
import io
import json
import random
import re
import socket
import stat
import threading
import zipfile
from collections import namedtuple
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
import requests

from cadlib.__main__ import main
from cadlib.data.dataset import open_dataset
from cadlib.data.download import (
    OFFICIAL,
    Client,
    Patience,
    Watch,
    check_address,
    download_official,
    download_sample,
)
from cadlib.data.download import client as client_module
from cadlib.data.download.checksums import hash_file, read_sums
from cadlib.data.download.client import finish
from cadlib.data.download.sample import TERMS
from cadlib.data.download.unpack import extract, inspect
from cadlib.errors import DownloadFailed
from cadlib.images.synthetic import write_dataset
from cadlib.taxonomy import CODES

DATA = random.Random(0).randbytes(10_240)
PATIENCE = Patience(connect_s=1.0, read_s=0.2, attempts=3, backoff_s=0.001)
Disk = namedtuple("Disk", "total used free")


@dataclass
class Served:
    """A file and how it is handed out; each list is used up, one entry an answer to GET."""

    data: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    drops: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    head_status: int | None = None
    head_size: int | None = None
    size: int | str | None = None
    content_range: str | None = None
    location: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    stalls: bool = False


class Server(ThreadingHTTPServer):
    """Serves `files` by path; `requests` holds (method, path, headers) of every request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.requests = []
        self.over = threading.Event()
        self.search = None

    def url(self, path=""):
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def gets(self, path):
        return [
            headers
            for method, requested_path, headers in self.requests
            if method == "GET" and requested_path == f"/{path}"
        ]

    def handle_error(self, request, client_address):
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is written in two pieces; 40 ms each otherwise

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.respond()

    def do_GET(self):
        self.respond()

    def respond(self):
        path = urlsplit(self.path)
        self.server.requests.append((self.command, path.path, dict(self.headers)))
        if self.server.search and path.path.endswith("/images/search/"):
            return self.send(200, self.server.search(self, parse_qs(path.query)), {})
        file = self.server.files.get(path.path.removeprefix("/"))
        if file is None:
            return self.send(404, b"", {})
        if file.location:
            return self.send(302, b"", {"Location": file.location})
        if file.stalls:
            self.server.over.wait(5)
            self.close_connection = True
            return None
        return self.send_head(file) if self.command == "HEAD" else self.send_file(file)

    def send_head(self, file):
        size = len(file.data) if file.head_size is None else file.head_size
        self.send(file.head_status or 200, b"", {**self.marks(file), "Content-Length": str(size)})

    def requested_start(self, file):
        """Return the first byte that the request asks for, or None without a valid range."""
        range_match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if range_match and file.ranges and self.headers["If-Range"] in (file.etag, file.modified):
            return int(range_match[1])
        return None

    def send_file(self, file):
        if file.statuses:
            return self.send(file.statuses.pop(0), b"", {})
        headers = self.marks(file)
        start = self.requested_start(file)
        if start is not None:
            content_range = f"bytes {start}-{len(file.data) - 1}/{len(file.data)}"
            headers["Content-Range"] = file.content_range or content_range
        start = start or 0
        if start >= len(file.data) > 0:
            return self.send(416, b"", {"Content-Range": f"bytes */{len(file.data)}"})
        body = file.data[start:]
        if file.size != "":
            headers["Content-Length"] = str(len(body) if file.size is None else file.size)
        if file.drops:
            body = body[: file.drops.pop(0)]
        if headers.get("Content-Length") != str(len(body)):
            self.close_connection = True
        return self.send(206 if "Content-Range" in headers else 200, body, headers)

    def marks(self, file):
        marks = {"ETag": file.etag, "Last-Modified": file.modified}
        return {**{name: value for name, value in marks.items() if value}, **file.headers}

    def send(self, status, body, headers):
        self.send_response(status)
        own_length = {"Content-Length": str(len(body))}
        if status != 200:
            headers = own_length | headers
        for name, value in (headers or own_length).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(client_module, "_CHUNK_BYTES", 256)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.over.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def part(tmp_path):
    return tmp_path / "data.bin.part"


def fetch(server, part, progress=lambda *_: None):
    client = Client(PATIENCE)
    client.fetch(client.ask(server.url("data.bin")), part, progress)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class DownloadLog:
    """Collects the messages and the progress of a download."""

    def __init__(self):
        self.lines = []
        self.steps = []
        self.watch = Watch(self.lines.append, lambda *step: self.steps.append(step))

    @property
    def text(self):
        return "\n".join(self.lines)


# one file


def test_downloads_a_file_and_reports_progress(server, part):
    server.files["data.bin"] = Served(DATA)
    steps = []
    fetch(server, part, lambda _, *step: steps.append(step))
    assert part.read_bytes() == DATA
    assert names(part.parent) == [part.name, f"{part.name}.json"]
    finish(part, part.with_suffix(""))
    assert names(part.parent) == ["data.bin"]
    assert steps == sorted(steps)
    assert steps[-1] == (len(DATA), len(DATA))
    assert server.gets("data.bin")[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("marks", [{}, {"etag": None, "modified": "Wed, 01 Oct 2025 00:00:00 GMT"}])
def test_a_connection_that_breaks_is_gone_on_with_where_it_broke(server, part, marks):
    server.files["data.bin"] = Served(DATA, drops=[3000, 4000], **marks)
    fetch(server, part)
    assert part.read_bytes() == DATA
    ranges = [headers.get("Range") for headers in server.gets("data.bin")]
    assert ranges == [None, "bytes=2816-", "bytes=6656-"]  # whole chunks of 256 bytes
    assert server.gets("data.bin")[1]["If-Range"] == (marks.get("modified") or '"one"')


def test_the_next_start_resumes_from_the_received_bytes(server, part):
    server.files["data.bin"] = Served(DATA, drops=[3000, 0, 0])
    with pytest.raises(DownloadFailed, match="ended after 2,816, 3 times. They are saved"):
        fetch(server, part)
    assert part.read_bytes() == DATA[:2816]
    fetch(server, part)
    assert part.read_bytes() == DATA
    assert server.gets("data.bin")[-1]["Range"] == "bytes=2816-"


def test_progress_gives_new_patience(server, part):
    server.files["data.bin"] = Served(DATA, drops=[1024] * 9)
    fetch(server, part)
    assert part.read_bytes() == DATA


def stopped_half_way(server, part, **how):
    server.files["data.bin"] = Served(DATA, drops=[3000, 0, 0], **how)
    with pytest.raises(DownloadFailed):
        fetch(server, part)
    assert part.stat().st_size > 0


def test_a_file_that_changed_is_not_glued_to_the_old_half(server, part):
    stopped_half_way(server, part)
    server.files["data.bin"] = Served(DATA[::-1], '"two"')
    fetch(server, part)
    assert part.read_bytes() == DATA[::-1]


def test_a_file_that_changes_between_question_and_answer_comes_whole(server, part):
    stopped_half_way(server, part)
    client = Client(PATIENCE)
    remote = client.ask(server.url("data.bin"))
    server.files["data.bin"] = Served(DATA[::-1], '"two"')
    client.fetch(remote, part, lambda *_: None)
    assert server.gets("data.bin")[-1]["Range"] == "bytes=2816-"
    assert part.read_bytes() == DATA[::-1]


def test_another_address_does_not_go_on_with_the_part(server, part):
    stopped_half_way(server, part)
    server.files["other/data.bin"] = Served(DATA[::-1])
    client = Client(PATIENCE)
    client.fetch(client.ask(server.url("other/data.bin")), part, lambda *_: None)
    assert part.read_bytes() == DATA[::-1]


@pytest.mark.parametrize("how", [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}])
def test_restarts_where_the_server_cannot_resume(server, part, how):
    server.files["data.bin"] = Served(DATA, drops=[3000], **how)
    fetch(server, part)
    assert part.read_bytes() == DATA
    resumed = ["Range" in headers for headers in server.gets("data.bin")]
    assert resumed == [
        False,
        "ranges" in how,
    ]  # a weak ETag never matches in If-Range (RFC 9110, 13.1.5)


@pytest.mark.parametrize("notes", ["", "{}", "\udcff"])
def test_restarts_where_the_notes_of_a_part_are_damaged(server, part, notes):
    stopped_half_way(server, part)
    part.with_name(part.name + ".json").write_bytes(notes.encode("utf-8", "surrogateescape"))
    part.write_bytes(b"x" * 100)
    fetch(server, part)
    assert part.read_bytes() == DATA


def test_restarts_where_a_part_is_too_long(server, part):
    stopped_half_way(server, part)
    part.write_bytes(DATA + b"more")
    fetch(server, part)
    assert part.read_bytes() == DATA


def test_a_part_that_is_whole_is_not_fetched_again(server, part):
    stopped_half_way(server, part)
    part.write_bytes(DATA)
    before = len(server.gets("data.bin"))
    fetch(server, part)
    assert len(server.gets("data.bin")) == before


def test_a_server_that_states_too_many_bytes_is_not_waited_for_for_ever(server, part):
    server.files["data.bin"] = Served(
        DATA, ranges=False, size=len(DATA) + 10, head_size=len(DATA) + 10
    )
    with pytest.raises(
        DownloadFailed, match="Expected 10,250 bytes of data.bin, but the connection ended"
    ):
        fetch(server, part)
    assert names(part.parent) == [part.name, f"{part.name}.json"]


def test_reports_a_range_past_the_end_and_deletes_the_part(server, part):
    server.files["data.bin"] = Served(DATA, size=len(DATA) + 10, head_size=len(DATA) + 10)
    with pytest.raises(
        DownloadFailed,
        match=r"10,250 bytes of data.bin, as the server had stated, but got bytes \*/10240",
    ):
        fetch(server, part)
    assert names(part.parent) == []


@pytest.mark.parametrize("size", [len(DATA) - 10, len(DATA) + 10])
def test_refuses_two_different_sizes_of_a_file(server, part, size):
    server.files["data.bin"] = Served(DATA, head_size=size)
    with pytest.raises(DownloadFailed, match="as the server had stated, but got 10240"):
        fetch(server, part)
    assert names(part.parent) == []


@pytest.mark.parametrize(
    ("size", "message"), [(len(DATA) + 1, "but got 10,240"), (len(DATA) - 1, "but got more")]
)
def test_an_answer_without_a_size_that_ends_early_or_late_is_refused(server, part, size, message):
    server.files["data.bin"] = Served(DATA, head_size=size, size="")
    steps = []
    with pytest.raises(DownloadFailed, match=message):
        fetch(server, part, lambda _, done, total: steps.append(done))
    assert names(part.parent) == []
    assert max(steps) <= size  # a stream without end does not fill the disk


def test_refuses_a_range_that_was_not_requested(server, part):
    stopped_half_way(server, part)
    server.files["data.bin"].content_range = f"bytes 0-{len(DATA) - 1}/{len(DATA)}"
    with pytest.raises(DownloadFailed, match="but got .* for the rest"):
        fetch(server, part)
    assert names(part.parent) == []


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, "no such file"), (403, "refuses"), (401, "login"), (500, "later"), (503, "later")],
)
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_reports_a_refusal_with_advice(server, part, status, reason, method):
    refused = {"head_status": status} if method == "HEAD" else {"statuses": [status] * 9}
    server.files["data.bin"] = Served(DATA, **refused)
    with pytest.raises(DownloadFailed, match=f"data.bin, but got status {status}: .*{reason}"):
        fetch(server, part)
    assert names(part.parent) == []


def test_a_busy_server_is_asked_again(server, part):
    server.files["data.bin"] = Served(DATA, statuses=[503, 500])
    fetch(server, part)
    assert part.read_bytes() == DATA


@pytest.mark.parametrize("status", [405, 501])
def test_a_server_that_does_not_know_head_is_asked_by_get(server, part, status):
    server.files["data.bin"] = Served(DATA, head_status=status)
    fetch(server, part)
    assert part.read_bytes() == DATA


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"head_status": 405, "size": ""}, "to state the size"),
        ({"headers": {"Content-Encoding": "gzip"}}, "the server compresses it"),
    ],
)
def test_a_file_whose_size_cannot_be_known_is_refused(server, part, how, message):
    server.files["data.bin"] = Served(DATA, **how)
    with pytest.raises(DownloadFailed, match=message):
        fetch(server, part)


def test_a_redirect_is_followed(server, part):
    server.files["data.bin"] = Served(b"", location="/elsewhere/data.bin")
    server.files["elsewhere/data.bin"] = Served(DATA)
    fetch(server, part)
    assert part.read_bytes() == DATA


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/data.bin"])
def test_a_redirect_away_from_http_is_refused(server, part, location):
    server.files["data.bin"] = Served(b"", location=location)
    with pytest.raises(DownloadFailed, match="not http or https"):
        fetch(server, part)


def test_a_redirect_from_https_down_to_http_is_refused(server):
    server.files["data.bin"] = Served(DATA)
    down = server.url("data.bin")

    class Downgrade(requests.adapters.BaseAdapter):
        def send(self, request, **_):
            response = requests.Response()
            response.status_code = 302
            response.url = request.url
            response.request = request
            response.headers["Location"] = down
            response.raw = io.BytesIO()
            return response

        def close(self):
            pass

    client = Client(PATIENCE)
    client._session.mount("https://", Downgrade())
    with pytest.raises(DownloadFailed, match="to stay on https, but it leads to http://127.0.0.1"):
        client.ask("https://isic.example/data.bin")


def test_a_redirect_in_a_circle_ends(server, part):
    server.files["data.bin"] = Served(b"", location="/data.bin")
    with pytest.raises(DownloadFailed, match="circle"):
        fetch(server, part)


def test_a_server_that_does_not_answer_is_not_waited_for(server, part):
    server.files["data.bin"] = Served(DATA, stalls=True)
    with pytest.raises(DownloadFailed, match="Expected an answer for .*data.bin, but no"):
        fetch(server, part)


def test_reports_a_missing_server(server, part):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/data.bin"
        with pytest.raises(DownloadFailed, match="no connection could be made"):
            Client(PATIENCE).ask(url)


def test_a_password_in_an_address_is_not_shown(server):
    url = server.url("data.bin?signature=secret").replace("http://", "http://name:secret@")
    with pytest.raises(DownloadFailed) as caught:
        Client(PATIENCE).ask(url)
    assert "secret" not in str(caught.value)


def test_ctrl_c_keeps_the_part_and_reports_it(server, part):
    server.files["data.bin"] = Served(DATA)

    def stop_at_4000(_, done, total):
        if done > 4000:
            raise KeyboardInterrupt

    with pytest.raises(
        KeyboardInterrupt, match=r"4,096 of 10,240 bytes of data.bin are saved in .*data.bin.part"
    ):
        fetch(server, part, stop_at_4000)
    fetch(server, part)
    assert part.read_bytes() == DATA
    assert server.gets("data.bin")[-1]["Range"] == "bytes=4096-"


@pytest.mark.parametrize(
    ("headers", "host", "is_md5"),
    [
        ({"ETag": '"0123456789abcdef0123456789abcdef"'}, client_module.OFFICIAL_HOST, True),
        ({"ETag": '"0123456789abcdef0123456789abcdef-17"'}, client_module.OFFICIAL_HOST, False),
        ({"ETag": '"0123456789abcdef0123456789abcdef"'}, "mirror.example", False),
        (
            {
                "ETag": '"0123456789abcdef0123456789abcdef"',
                "x-amz-server-side-encryption": "aws:kms",
            },
            client_module.OFFICIAL_HOST,
            False,
        ),
        ({}, client_module.OFFICIAL_HOST, False),
    ],
)
def test_an_etag_counts_as_md5_only_from_s3(headers, host, is_md5):
    response = requests.Response()
    response.headers.update(headers)
    assert (client_module._md5(f"https://{host}/2019/x.zip", response) is not None) == is_md5


@pytest.mark.parametrize(
    "url", ["ftp://x/", "file:///tmp", "/tmp", "http://", "https://x:y/", "https://x/?a=b", ""]
)
def test_an_address_that_is_no_folder_on_a_web_server_is_refused(url):
    with pytest.raises(DownloadFailed, match="begins with http:// or https://"):
        check_address(url)


# checksums


def test_checksums_are_read_as_sha256sum_writes_them():
    digest = "0123456789abcdef" * 4
    text = f"# made here\n{digest}  a.zip\n{digest.upper()} *b.csv\n\n"
    assert read_sums(text, "it") == {"a.zip": digest, "b.csv": digest}


@pytest.mark.parametrize("line", ["<html>", "0123  a.zip", f"{'0' * 64}  ../a.zip"])
def test_other_lines_are_no_checksums(line):
    with pytest.raises(DownloadFailed, match="in line 2 of it"):
        read_sums(f"{'0' * 64}  a.zip\n{line}\n", "it")


# zip


def zipped(path, members, **how):
    """Write a zip of (name or ZipInfo, bytes) in this order."""
    with zipfile.ZipFile(path, "w", **how) as archive:
        for member, data in members:
            archive.writestr(member, data)
    return path


def named(name, *, mode=0):
    """Return a member with exactly this name, also where zipfile would correct it."""
    info = zipfile.ZipInfo("x")
    info.filename = name
    info.external_attr = mode << 16
    return info


def unpacked(path, folder):
    extract(path, inspect(path), folder, lambda *_: None)


def test_a_zip_is_unpacked_into_one_folder(tmp_path):
    members = [
        ("deep/set/", b""),
        ("deep/set/a.jpg", b"a"),
        ("LICENSE.txt", b"l"),
        ("__MACOSX/._a.jpg", b"?"),
    ]
    path = zipped(tmp_path / "set.zip", members)
    assert inspect(path).images == 1
    unpacked(path, tmp_path / "set")
    assert {file.name: file.read_bytes() for file in (tmp_path / "set").iterdir()} == {
        "a.jpg": b"a",
        "LICENSE.txt": b"l",
    }


@pytest.mark.parametrize(
    "member",
    [
        named("../evil.jpg"),
        named("set/../../evil.jpg"),
        named("/evil.jpg"),
        named("//host/evil.jpg"),
        named("C:/evil.jpg"),
        named("C:evil.jpg"),
        named("..\\evil.jpg"),
        named("set/./evil.jpg"),
        named("evil.jpg:stream"),
        named("evil\0.jpg"),
        named("evil\n.jpg"),
        named("evil.jpg", mode=stat.S_IFLNK | 0o777),
        named("evil.jpg", mode=stat.S_IFCHR | 0o666),
        named("evil.jpg", mode=stat.S_IFIFO | 0o666),
    ],
    ids=lambda member: f"{member.filename!r}-{member.external_attr >> 28}",
)
def test_a_hostile_member_refuses_the_whole_zip(tmp_path, member):
    path = zipped(tmp_path / "set.zip", [("good.jpg", b"good"), (member, b"/etc/passwd")])
    with pytest.raises(DownloadFailed, match="Expected"):
        unpacked(path, tmp_path / "below" / "set")
    assert names(tmp_path) == ["set.zip"]


@pytest.mark.parametrize("other_name", ["b/a.jpg", "a/A.JPG", "A/a.jpg"])
def test_two_members_of_one_final_name_are_refused(tmp_path, other_name):
    path = zipped(tmp_path / "set.zip", [("a/a.jpg", b"1"), (other_name, b"2")])
    with pytest.raises(DownloadFailed, match="in it twice"):
        unpacked(path, tmp_path / "set")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_member_written_twice_is_refused(tmp_path):
    path = zipped(tmp_path / "set.zip", [("a.jpg", b"1"), ("a.jpg", b"2")])
    with pytest.raises(DownloadFailed, match="in it twice"):
        unpacked(path, tmp_path / "set")


def test_a_bomb_is_refused_before_it_goes_off(tmp_path):
    path = zipped(
        tmp_path / "set.zip", [("a.jpg", b"\0" * 3_000_000)], compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(DownloadFailed, match="would become 3,000,000"):
        inspect(path)


def patched(path, offset, value):
    """Change four bytes of the first entry of the central directory (PKWARE APPNOTE 4.3.12)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + offset
    data[at : at + 4] = value.to_bytes(4, "little")
    path.write_bytes(data)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("declared", [5_000, 15_000])
def test_a_member_that_is_larger_or_smaller_than_declared_is_refused(tmp_path, packing, declared):
    path = zipped(tmp_path / "set.zip", [("a.jpg", DATA)], compression=packing)
    patched(path, 24, declared)
    if packing == zipfile.ZIP_STORED:
        patched(path, 20, declared)
    with pytest.raises(DownloadFailed, match="damaged"):
        unpacked(path, tmp_path / "set")
    assert names(tmp_path) == ["set.zip"]


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packing_that_isic_does_not_use_is_refused(tmp_path, packing):
    path = zipped(tmp_path / "set.zip", [("a.jpg", DATA)], compression=packing)
    with pytest.raises(DownloadFailed, match="not encrypted and packed by deflate"):
        inspect(path)


def test_an_encrypted_member_is_refused(tmp_path):
    path = zipped(tmp_path / "set.zip", [("a.jpg", DATA)])
    patched(path, 8, 1)
    with pytest.raises(DownloadFailed, match="not encrypted and packed by deflate"):
        inspect(path)


@pytest.mark.parametrize("keep", [0, 100, -30])
def test_a_truncated_zip_is_refused(tmp_path, keep):
    path = zipped(tmp_path / "set.zip", [("a.jpg", DATA)])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DownloadFailed, match="damaged"):
        inspect(path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_flipped_byte_is_found_and_nothing_is_left(tmp_path, packing):
    path = zipped(
        tmp_path / "set.zip", [("a.jpg", b"first"), ("b.jpg", hashlib.sha512(b"x").digest() * 9)]
    )
    data = bytearray(path.read_bytes())
    data[data.index(b"b.jpg") + 40] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DownloadFailed, match="damaged"):
        unpacked(path, tmp_path / "set")
    assert names(tmp_path) == ["set.zip"]


def test_ctrl_c_while_unpacking_leaves_the_zip_alone(tmp_path):
    path = zipped(tmp_path / "set.zip", [("a.jpg", DATA), ("b.jpg", DATA)])

    def stop(_, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"set.zip was not deleted"):
        extract(path, inspect(path), tmp_path / "set", stop)
    assert names(tmp_path) == ["set.zip"]


def test_remains_of_a_killed_download_stay_out_of_the_folder(tmp_path):
    path = zipped(tmp_path / "set.zip", [("a.jpg", DATA)])
    (tmp_path / "set.part").mkdir()
    (tmp_path / "set.part" / "half.jpg").write_bytes(b"half")
    unpacked(path, tmp_path / "set")
    assert names(tmp_path / "set") == ["a.jpg"]


# the four files

COUNTS = {"ISIC_2019_Test_Input.zip": 2}
FILES = tuple(replace(file, count=COUNTS.get(file.name, 8)) for file in OFFICIAL)
TRAINING = "ISIC_2019_Training_Input"
TRUTH = "ISIC_2019_Training_GroundTruth.csv"
RESULTS = sorted([*(file.result for file in FILES), "SHA256SUMS"])


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Return name -> bytes of a small data set, as ISIC would hand it out."""
    folder = write_dataset(tmp_path_factory.mktemp("official"), per_class=1, size_px=64)
    pictures = sorted((folder / TRAINING).iterdir())
    sets = {TRAINING: pictures, "ISIC_2019_Test_Input": pictures[:2]}
    files = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    for name, paths in sets.items():
        members = [
            (f"{name}/LICENSE.txt", b"CC BY-NC"),
            *((f"{name}/{p.name}", p.read_bytes()) for p in paths),
        ]
        files[f"{name}.zip"] = zipped(folder / f"{name}.zip", members).read_bytes()
    return files


@pytest.fixture
def mirror(server, official):
    server.files.update(
        {f"isic/{name}": Served(data, f'"{name}"') for name, data in official.items()}
    )
    return server


@pytest.fixture
def to(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def get(mirror, to, **how):
    log = DownloadLog()
    download_official(
        to,
        log.watch,
        **{"mirror": mirror.url("isic"), "files": FILES, "client": Client(PATIENCE), **how},
    )
    return log


def sums(official):
    return {name: hashlib.sha256(data).hexdigest() for name, data in official.items()}


def test_the_official_files_are_those_of_isic():
    assert [file.name for file in OFFICIAL] == [
        "ISIC_2019_Training_Metadata.csv",
        "ISIC_2019_Training_GroundTruth.csv",
        "ISIC_2019_Training_Input.zip",
        "ISIC_2019_Test_Input.zip",
    ]


def test_the_result_is_a_folder_that_open_dataset_opens(mirror, to):
    get(mirror, to)
    assert names(to) == RESULTS
    dataset = open_dataset(to)
    assert dataset.table["diagnosis"].tolist() == list(CODES)
    assert [mismatch.kind for mismatch in dataset.report.mismatches] == ["files that are no image"]
    assert "LICENSE.txt" in names(to / TRAINING)


def test_prints_and_records_the_hash_of_the_download(mirror, to, official):
    log = get(mirror, to)
    assert read_sums((to / "SHA256SUMS").read_text(), "") == sums(official)
    for name, digest in sums(official).items():
        assert f"{digest}  {name}" in log.lines
    assert {step for step, _, _ in log.steps} >= {
        f"{TRAINING}.zip",
        f"checking {TRUTH}",
        f"unpacking {TRAINING}.zip",
    }


def test_a_second_run_changes_nothing_and_sends_no_request(mirror, to):
    get(mirror, to)
    mirror.requests.clear()
    log = get(mirror, to)
    assert mirror.requests == []
    assert "Nothing to download" in log.lines[-1]


def test_only_what_is_missing_is_fetched(mirror, to):
    get(mirror, to)
    (to / TRUTH).unlink()
    mirror.requests.clear()
    get(mirror, to)
    assert {path for _, path, _ in mirror.requests} == {"/isic/SHA256SUMS", f"/isic/{TRUTH}"}
    assert names(to) == RESULTS


def test_a_break_in_the_large_file_is_mended_by_the_next_run(mirror, to):
    mirror.files[f"isic/{TRAINING}.zip"].drops = [2000, 0, 0]
    with pytest.raises(DownloadFailed, match="run the command again"):
        get(mirror, to)
    assert TRAINING not in names(to)
    get(mirror, to)
    assert names(to) == RESULTS
    assert mirror.gets(f"isic/{TRAINING}.zip")[-1]["Range"].startswith("bytes=1")


def test_a_folder_whose_zips_were_kept_serves_as_a_mirror(mirror, to, tmp_path):
    get(mirror, to, keep_zip=True)
    assert names(to) == sorted([*RESULTS, *COUNTS, f"{TRAINING}.zip"])
    mirror.files = {
        f"isic/{path.name}": Served(path.read_bytes()) for path in to.iterdir() if path.is_file()
    }
    log = get(mirror, tmp_path)
    assert "cannot be compared" not in log.text
    assert set(names(tmp_path)) >= set(RESULTS)


def test_reports_a_mirror_without_checksums(mirror, to):
    assert "The mirror has no SHA256SUMS" in get(mirror, to).text


def test_a_file_that_is_not_the_one_in_the_checksums_is_not_used(mirror, to, official):
    wrong = {**sums(official), TRUTH: "0" * 64}
    mirror.files["isic/SHA256SUMS"] = Served(
        "".join(f"{d}  {n}\n" for n, d in wrong.items()).encode()
    )
    with pytest.raises(DownloadFailed, match=f"Expected the hash {'0' * 64} of {TRUTH}"):
        get(mirror, to)
    assert names(to) == [f"{TRUTH}.refused", "ISIC_2019_Training_Metadata.csv", "SHA256SUMS"]
    del mirror.files["isic/SHA256SUMS"]
    get(mirror, to)
    assert (to / TRUTH).read_bytes() == official[TRUTH]


def test_a_mirror_that_states_another_hash_than_the_known_one_is_refused_at_once(
    mirror, to, official
):
    mirror.files["isic/SHA256SUMS"] = Served(f"{'0' * 64}  {TRUTH}\n".encode())
    files_with_hash = [replace(file, sha256=sums(official)[file.name]) for file in FILES]
    with pytest.raises(DownloadFailed, match="but the mirror states 000"):
        get(mirror, to, files=files_with_hash)
    del mirror.files["isic/SHA256SUMS"]
    get(mirror, to, files=files_with_hash)
    assert names(to) == RESULTS


def test_a_known_hash_is_checked(mirror, to):
    with pytest.raises(DownloadFailed, match="Expected the hash 111"):
        get(mirror, to, files=[replace(FILES[0], sha256="1" * 64)])


def test_the_md5_that_s3_gives_is_checked(mirror, to, monkeypatch, official):
    monkeypatch.setattr(client_module, "OFFICIAL_HOST", "127.0.0.1")
    for name, data in official.items():
        mirror.files[
            f"isic/{name}"
        ].etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
    mirror.files[f"isic/{TRUTH}"].etag = f'"{"2" * 32}"'
    with pytest.raises(DownloadFailed, match=f"Expected the hash {'2' * 32} of {TRUTH}"):
        get(mirror, to)
    assert "ISIC_2019_Training_Metadata.csv" in names(to)


def needed_bytes(official):
    """Return how many bytes of disk a download needs, without and with its ZIP files kept."""
    tables = sum(len(data) for name, data in official.items() if name.endswith(".csv"))
    training = len(official[f"{TRAINING}.zip"])
    test = len(official["ISIC_2019_Test_Input.zip"])
    without_zips = tables + training + max(training, 2 * test)
    with_zips = tables + 2 * training + 2 * test
    return without_zips, with_zips


def test_free_disk_is_checked_before_anything_is_fetched(mirror, to, monkeypatch, official):
    needed_to_unpack, needed_to_keep = needed_bytes(official)
    for keep_zip, needed in ((False, needed_to_unpack), (True, needed_to_keep)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=needed - 1: Disk(0, 0, free))
        message = f"Expected {needed:,} bytes of free disk .* there are {needed - 1:,}"
        with pytest.raises(DownloadFailed, match=message):
            get(mirror, to, keep_zip=keep_zip)
    assert names(to) == []
    fetched = [path for method, path, _ in mirror.requests if method == "GET"]
    assert all("SHA256SUMS" in path for path in fetched)
    monkeypatch.setattr("shutil.disk_usage", lambda _: Disk(0, 0, needed_to_keep))
    get(mirror, to, keep_zip=True)


def test_compares_the_declared_size_with_free_disk_before_unpacking(
    mirror, to, monkeypatch, tmp_path
):
    path = zipped(
        tmp_path / "x.zip", [(f"{n}.jpg", b"\0" * 20_480 + DATA) for n in range(8)], compression=8
    )
    mirror.files[f"isic/{TRAINING}.zip"] = Served(path.read_bytes())
    free = 2 * path.stat().st_size
    monkeypatch.setattr("shutil.disk_usage", lambda _: Disk(0, 0, free))
    with pytest.raises(DownloadFailed, match="Expected 245,760 bytes of free disk"):
        get(mirror, to, files=[FILES[2]])
    assert f"{TRAINING}.zip" in names(to)
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    mirror.requests.clear()
    get(mirror, to, files=[FILES[2]])
    assert mirror.gets(f"isic/{TRAINING}.zip") == []
    assert names(to) == [TRAINING, "SHA256SUMS"]


@pytest.mark.parametrize(
    "page",
    [
        b"<html><body>Please log in</body></html>",
        b"",
        b"image,MEL,NV\nISIC_0000000,1.0,0.0\n",
        b"\xff\xfe\0",
    ],
)
def test_a_page_or_a_piece_instead_of_a_table_is_not_used(mirror, to, page):
    mirror.files[f"isic/{TRUTH}"] = Served(page)
    with pytest.raises(DownloadFailed, match=f"Expected .*{TRUTH}.* is now .*{TRUTH}.refused"):
        get(mirror, to)
    assert TRUTH not in names(to)


def test_a_table_cut_short_by_a_lie_about_its_size_is_not_used(mirror, to, official):
    half = official[TRUTH].index(b"\n", 200) + 1
    mirror.files[f"isic/{TRUTH}"] = Served(official[TRUTH], size=half, head_size=half)
    with pytest.raises(DownloadFailed, match="Expected 8 rows"):
        get(mirror, to)
    assert TRUTH not in names(to)


def hostile(tmp_path):
    return zipped(tmp_path / "x.zip", [(named("../evil.jpg"), DATA)]).read_bytes()


def flipped(official):
    data = bytearray(official[f"{TRAINING}.zip"])
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize("kind", ["hostile", "flipped", "truncated", "too few", "html"])
def test_an_unexpected_zip_leaves_no_folder_and_is_downloaded_again(
    mirror, to, official, tmp_path, kind
):
    zip_bytes = {
        "hostile": lambda: hostile(tmp_path),
        "flipped": lambda: flipped(official),
        "truncated": lambda: official[f"{TRAINING}.zip"][:-100],
        "too few": lambda: official["ISIC_2019_Test_Input.zip"],
        "html": lambda: b"<html>",
    }[kind]()
    mirror.files[f"isic/{TRAINING}.zip"] = Served(zip_bytes)
    with pytest.raises(DownloadFailed, match="Run the command again to repeat the download"):
        get(mirror, to)
    assert f"{TRAINING}.zip.refused" in names(to)
    assert not {TRAINING, f"{TRAINING}.zip", f"{TRAINING}.zip.part", f"{TRAINING}.part"} & set(
        names(to)
    )
    assert not list(tmp_path.rglob("evil.jpg"))
    assert (
        f"{TRAINING}.zip" not in (to / "SHA256SUMS").read_text() or kind == "flipped"
    )  # seen while unpacking alone
    mirror.files[f"isic/{TRAINING}.zip"] = Served(official[f"{TRAINING}.zip"])
    get(mirror, to)
    assert set(names(to)) >= set(RESULTS)


@pytest.mark.parametrize("fetched_before", [False, True])
def test_a_zip_that_somebody_put_there_is_used_and_not_deleted(
    mirror, to, official, fetched_before
):
    (to / f"{TRAINING}.zip").write_bytes(official[f"{TRAINING}.zip"])
    if fetched_before:
        (to / "SHA256SUMS").write_text(f"{'3' * 64}  {TRAINING}.zip\n")
    get(mirror, to)
    assert mirror.gets(f"isic/{TRAINING}.zip") == []
    assert f"{TRAINING}.zip" in names(to)
    assert len(open_dataset(to).table) == 8


def test_a_zip_that_somebody_put_there_is_compared_with_the_mirrors_hash(mirror, to, official):
    (to / f"{TRAINING}.zip").write_bytes(flipped(official))
    mirror.files["isic/SHA256SUMS"] = Served(
        f"{sums(official)[f'{TRAINING}.zip']}  {TRAINING}.zip\n".encode()
    )
    with pytest.raises(DownloadFailed, match="Expected the hash"):
        get(mirror, to)


def test_a_zip_that_somebody_put_there_must_hold_the_pictures(mirror, to, official):
    (to / f"{TRAINING}.zip").write_bytes(official["ISIC_2019_Test_Input.zip"])
    with pytest.raises(
        DownloadFailed, match="Expected 8 images in ISIC_2019_Training_Input.zip, but found 2"
    ):
        get(mirror, to)
    assert TRAINING not in names(to)


def test_keeps_and_reports_an_incomplete_folder(mirror, to):
    get(mirror, to)
    victim = next((to / TRAINING).glob("*.jpg"))
    victim.unlink()
    with pytest.raises(
        DownloadFailed, match=f"Expected 8 images in .*{TRAINING}, but found 7. Move it to"
    ):
        get(mirror, to)
    assert len(list((to / TRAINING).glob("*.jpg"))) == 7


def test_keeps_and_reports_a_changed_table(mirror, to):
    get(mirror, to)
    changed = (to / TRUTH).read_text().replace("1.0", "0.0", 1)
    (to / TRUTH).write_text(changed)
    with pytest.raises(DownloadFailed, match="Move it to another folder to download it again"):
        get(mirror, to)
    assert (to / TRUTH).read_text() == changed


def test_a_table_that_somebody_put_there_must_be_that_table(mirror, to, official):
    (to / TRUTH).write_bytes(official[TRUTH])
    assert f"{TRUTH} is complete" in get(mirror, to).text
    (to / "SHA256SUMS").unlink()
    (to / TRUTH).write_text("image,MEL\n")
    with pytest.raises(DownloadFailed, match="only a header"):
        get(mirror, to)


@pytest.mark.parametrize("step", ["checking", "unpacking"])
def test_ctrl_c_after_the_last_byte_costs_no_byte(mirror, to, step):
    def stop(action, done, total):
        if action == f"{step} {TRAINING}.zip":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_official(
            to,
            Watch(lambda _: None, stop),
            mirror=mirror.url("isic"),
            files=FILES,
            client=Client(PATIENCE),
        )
    assert TRAINING not in names(to)
    get(mirror, to)
    assert names(to) == RESULTS
    assert len(mirror.gets(f"isic/{TRAINING}.zip")) == 1


def test_a_hash_is_that_of_the_whole_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(DATA * 200)
    hashes = hash_file(path, lambda *_: None)
    assert hashes.sha256 == hashlib.sha256(DATA * 200).hexdigest()
    assert hashes.md5 == hashlib.md5(DATA * 200, usedforsecurity=False).hexdigest()


# a sample

LICENCES = ("CC-0", "CC-BY-NC")


@dataclass
class Archive:
    """A small archive with the API's form, which searches in `records`."""

    server: Server
    records: list[dict]
    page: int = 100
    circle: bool = False

    def search(self, handler, query):
        conditions = re.findall(r'(diagnosis_\d):"([^"]*)"', query["query"][0])
        assert query["collections"] == ["65"]
        matches = [
            r
            for r in self.records
            if any(r["listed_under"].get(level) == term for level, term in conditions)
        ]
        start = int(query.get("cursor", ["0"])[0])
        limit = min(self.page, int(query["limit"][0]))
        more = self.circle or start + limit < len(matches)
        here = handler.path.partition("&cursor=")[0]
        following = (
            self.server.url(f"{here[1:]}&cursor={0 if self.circle else start + limit}")
            if more
            else None
        )
        results = [
            {key: r[key] for key in r if key != "listed_under"}
            for r in matches[start : start + limit]
        ]
        return json.dumps(
            {"results": results, "next": following, "previous": None, "count": len(matches)}
        ).encode()


@pytest.fixture
def archive(server, synthetic_dataset):
    """Return an archive that lists four images a class, and serves them."""
    pictures = sorted((synthetic_dataset / TRAINING).iterdir())
    records = []
    for number in range(4 * len(CODES)):
        code = CODES[number // 4]
        which = number % 4
        level, term = TERMS[code][which % len(TERMS[code])]
        image = f"ISIC_{number:07d}"
        server.files[f"full/{image}.jpg"] = Served(pictures[number].read_bytes())
        clinical = {
            "diagnosis_1": "Benign",
            level: term,
            "age_approx": 45 + which,
            "sex": "female",
            "anatom_site_1": "Trunk",
            "anatom_site_2": "Posterior trunk",
            "lesion_id": f"IL_{number:07d}",
        }
        records.append(
            {
                "isic_id": image,
                "copyright_license": LICENCES[which % 2],
                "attribution": 'Hospital Clínic de Barcelona, "B"',
                "files": {
                    "full": {"url": server.url(f"full/{image}.jpg?signature=s"), "size": 1000},
                    "thumbnail_256": {"url": server.url("thumb.jpg"), "size": 10},
                },
                "metadata": {"acquisition": {"pixels_x": 64, "pixels_y": 64}, "clinical": clinical},
                "listed_under": {level: term},
            }
        )
    archive_of_four = Archive(server, records)
    server.search = archive_of_four.search
    return archive_of_four


def sample(archive, to, count=2):
    log = DownloadLog()
    download_sample(to, count, log.watch, api=archive.server.url("api/v2"), client=Client(PATIENCE))
    return log


def of(archive, code):
    return archive.records[4 * CODES.index(code) :][:4]


def test_a_sample_opens_as_a_labelled_data_set(archive, to):
    log = sample(archive, to)
    dataset = open_dataset(to)
    assert dataset.table["diagnosis"].value_counts().to_dict() == dict.fromkeys(CODES, 2)
    row = dataset.table.iloc[0]
    assert (row["age_approx"], row["sex"], row["anatom_site_general"], row["lesion_id"]) == (
        45,
        "female",
        "posterior torso",
        "IL_0000000",
    )
    assert dataset.report.mismatches == ()
    assert log.steps[-1] == ("images", 16, 16)
    assert "16 images of 8 classes" in log.text


def test_the_author_and_the_licence_of_each_image_are_kept(archive, to):
    log = sample(archive, to)
    table = pd.read_csv(to / "attribution.csv").set_index("image")
    assert len(table) == 16
    assert table.loc["ISIC_0000001"].to_dict() == {
        "attribution": 'Hospital Clínic de Barcelona, "B"',
        "copyright_license": "CC-BY-NC",
        "diagnosis": "Benign > Malignant melanocytic proliferations (Melanoma)",
    }
    assert "attribution.csv" in log.text


def test_a_missing_or_unknown_label_is_counted_and_not_guessed(archive, to):
    records = of(archive, "NV")
    missing, unknown, ambiguous, _ = [record["metadata"]["clinical"] for record in records]
    missing.clear()
    unknown["diagnosis_3"] = "Squamous cell carcinoma in situ"
    ambiguous["diagnosis_2"] = "Benign soft tissue proliferations - Vascular"
    log = sample(archive, to)
    assert (
        "NV: 3 images left out, whose label is missing or unknown: ISIC_0000004 (no diagnosis)"
        in log.text
    )
    assert "Squamous cell carcinoma in situ" in log.text
    assert "NV: 2 images requested, but the archive lists 1." in log.text
    assert open_dataset(to).table["diagnosis"].value_counts()["NV"] == 1


def test_a_sample_reads_as_many_pages_as_it_needs(archive, to):
    archive.page = 1
    sample(archive, to, 4)
    assert len(open_dataset(to).table) == 32


def test_a_list_that_leads_in_a_circle_ends(archive, to):
    archive.circle = True
    for record in of(archive, "MEL"):
        record["metadata"]["clinical"].clear()
    assert "MEL: 2 images requested, but the archive lists 0" in sample(archive, to).text


def test_an_image_listed_twice_is_refused(archive, to):
    archive.records[1]["isic_id"] = archive.records[0]["isic_id"]
    with pytest.raises(DownloadFailed, match="each image once"):
        sample(archive, to)


def test_reports_an_empty_archive(archive, to):
    archive.records.clear()
    with pytest.raises(DownloadFailed, match="lists none"):
        sample(archive, to)
    assert names(to) == []


def test_a_second_run_leaves_the_sample_alone_and_asks_nobody(archive, to):
    sample(archive, to)
    archive.server.requests.clear()
    assert "Nothing to download" in sample(archive, to).text
    assert archive.server.requests == []


@pytest.mark.parametrize("spoil", ["count", "official", "picture gone"])
def test_another_data_set_is_left_alone(archive, to, spoil):
    if spoil == "official":
        write_dataset(to, per_class=1, size_px=64)
    else:
        sample(archive, to)
    if spoil == "picture gone":
        next((to / TRAINING).iterdir()).unlink()
    before = {path: path.read_bytes() for path in to.rglob("*") if path.is_file()}
    with pytest.raises(DownloadFailed, match="without a data set"):
        sample(archive, to, 3 if spoil == "count" else 2)
    assert {path: path.read_bytes() for path in to.rglob("*") if path.is_file()} == before


def test_a_sample_that_stopped_goes_on_with_the_images_that_came(archive, to):
    archive.server.files["full/ISIC_0000012.jpg"].statuses = [404]
    with pytest.raises(DownloadFailed, match="404"):
        sample(archive, to)
    assert names(to) == [f"{TRAINING}.part"]
    (to / f"{TRAINING}.part" / "ISIC_0000004.half").write_bytes(b"half")
    sample(archive, to)
    assert len(archive.server.gets("full/ISIC_0000000.jpg")) == 1
    assert open_dataset(to).report.mismatches == ()
    assert len(names(to / TRAINING)) == 16


def test_a_sample_stopped_before_its_last_step_is_made_good(archive, to):
    sample(archive, to)
    (to / TRAINING).rename(to / f"{TRAINING}.part")
    sample(archive, to)
    assert len(open_dataset(to).table) == 16


def test_retries_an_image_after_a_broken_connection(archive, to):
    archive.server.files["full/ISIC_0000000.jpg"].drops = [100, 100]
    sample(archive, to)
    archive.server.files["full/ISIC_0000001.jpg"].drops = [100, 100, 100]
    (to / "second").mkdir()
    with pytest.raises(DownloadFailed, match="ISIC_0000001.jpg, but no connection"):
        sample(archive, to / "second")


def test_leaves_out_a_sample_that_is_not_an_image(archive, to):
    archive.server.files["full/ISIC_0000000.jpg"] = Served(b"<html>")
    with pytest.raises(DownloadFailed, match="Expected the image ISIC_0000000"):
        sample(archive, to)
    assert names(to / f"{TRAINING}.part") == []


def test_a_picture_without_end_is_not_read_to_its_end(archive, to, monkeypatch):
    monkeypatch.setattr("cadlib.data.download.sample._MAX_IMAGE_BYTES", 100)
    with pytest.raises(DownloadFailed, match="at most 100 bytes"):
        sample(archive, to)


def test_a_sample_looks_at_the_free_disk_first(archive, to, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: Disk(0, 0, 15_999))
    with pytest.raises(DownloadFailed, match="Expected 16,000 bytes of free disk"):
        sample(archive, to)
    assert not archive.server.gets("full/ISIC_0000000.jpg")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"results": 1, "next": null}',
        b'{"results": [], "next": 1}',
        b'{"results": [1], "next": null}',
        b'{"results": [{"isic_id": "ISIC_0000000", "files": []}], "next": null}',
    ],
)
def test_an_invalid_response_of_the_api_is_refused(archive, to, body):
    archive.server.search = lambda *_: body
    with pytest.raises(DownloadFailed, match="Expected .* at http://127.0.0.1"):
        sample(archive, to)
    assert names(to) == []


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("../evil", None),
        ("ISIC_0000000/../../evil", None),
        ("ISIC_1", None),
        ("", None),
        ("ISIC_0000000", "file:///etc/passwd"),
        ("ISIC_0000000", ""),
    ],
)
def test_an_id_or_an_address_of_another_form_is_refused(archive, to, image, url):
    record = archive.records[0]
    record["isic_id"] = image
    record["files"]["full"]["url"] = record["files"]["full"]["url"] if url is None else url
    with pytest.raises(DownloadFailed, match="Expected an id like ISIC_0000000 with an address"):
        sample(archive, to)
    assert names(to) == []


def test_fields_missing_in_the_api_stay_empty(archive, to):
    clinical = archive.records[0]["metadata"]["clinical"]
    clinical.update(
        age_approx=None,
        sex="other",
        anatom_site_1="Anogenital region",
        anatom_site_2=None,
        lesion_id=[],
    )
    sample(archive, to)
    row = pd.read_csv(to / "ISIC_2019_Training_Metadata.csv").set_index("image").loc["ISIC_0000000"]
    assert row.isna().all()


def test_every_class_has_terms():
    assert set(TERMS) == set(CODES)
    assert len({term for terms in TERMS.values() for term in terms}) == sum(
        map(len, TERMS.values())
    )


# the command


@pytest.fixture
def small(monkeypatch):
    """Make the command fetch the small data set, with little patience."""
    monkeypatch.setitem(download_official.__kwdefaults__, "files", FILES)
    monkeypatch.setitem(download_official.__kwdefaults__, "client", Client(PATIENCE))
    monkeypatch.setitem(download_sample.__kwdefaults__, "client", Client(PATIENCE))


def test_the_command_downloads_from_a_mirror_and_reports_it(
    mirror, tmp_path, small, capsys, official
):
    arguments = ["download", "--to", str(tmp_path / "new" / "data"), "--mirror", mirror.url("isic")]
    assert main([*arguments, "--keep-zip"]) == 0
    assert f"{sums(official)[TRUTH]}  {TRUTH}" in capsys.readouterr().out
    assert f"{TRAINING}.zip" in names(tmp_path / "new" / "data")
    assert main(arguments) == 0
    assert "Nothing to download" in capsys.readouterr().out


def test_the_command_asks_isic_where_no_mirror_is_given(mirror, tmp_path, small, monkeypatch):
    monkeypatch.setattr("cadlib.data.download.official.ADDRESS", mirror.url("isic"))
    assert main(["download", "--to", str(tmp_path)]) == 0
    assert not mirror.gets("isic/SHA256SUMS")
    assert set(names(tmp_path)) >= set(RESULTS)


def test_the_command_takes_a_sample(archive, tmp_path, small, monkeypatch, capsys):
    monkeypatch.setitem(download_sample.__kwdefaults__, "api", archive.server.url("api/v2/"))
    assert main(["download", "--to", str(tmp_path), "--sample", "1"]) == 0
    assert "8 images of 8 classes" in capsys.readouterr().out


def test_a_failed_command_exits_with_1_and_the_reason(server, tmp_path, small, capsys):
    assert main(["download", "--to", str(tmp_path), "--mirror", server.url("nowhere")]) == 1
    assert "Metadata.csv, but got status 404: there is no such file" in capsys.readouterr().err
    assert names(tmp_path) == []


def test_ctrl_c_exits_with_130_and_names_the_kept_part(
    mirror, tmp_path, small, monkeypatch, capsys
):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cadlib.progress.ProgressBars.__call__", stop)
    assert main(["download", "--to", str(tmp_path), "--mirror", mirror.url("isic")]) == 130
    assert "bytes of ISIC_2019_Training_Metadata.csv are saved in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--to", "{tmp}", "--sample", "0"],
        ["--to", "{tmp}", "--sample", "-1"],
        ["--to", "{tmp}", "--sample", "many"],
        ["--to", "{tmp}", "--mirror", "ftp://isic.example/"],
        ["--to", "{tmp}", "--mirror", "/mnt/isic"],
        ["--to", "{tmp}", "--mirror", ""],
        ["--to", "{tmp}", "--sample", "1", "--mirror", "https://isic.example/"],
        ["--to", "{tmp}", "--sample", "1", "--keep-zip"],
        ["--to", "{tmp}/file"],
    ],
)
def test_bad_usage_of_the_command_ends_with_2_before_any_work(arguments, tmp_path, capsys):
    (tmp_path / "file").touch()
    formatted = [argument.format(tmp=tmp_path) for argument in arguments]
    assert main(["download", *formatted]) == 2
    assert capsys.readouterr().err
    assert names(tmp_path) == ["file"]
