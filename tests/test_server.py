"""The web server around the pages answers its own pages alone, and forgets images in time."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.formparsers import MultiPartParser
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect
from streamlit import config, net_util

from cadlib.server import forbid_lookups, middleware, session_memory, uploads
from cadlib.server.session_memory import Holding

ROOT = Path(__file__).parents[1]
ALLOWED = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["server"]["allowedHosts"]
FOREIGN_HOSTS = (
    "evil.example",
    "evil.example:8501",
    "localhost.evil.example",
    "a@localhost",
    "192.168.0.5",
    "",
    "a b",
)
UPLOAD = "/_stcore/upload_file/tab/file"


@pytest.fixture
def options(monkeypatch):
    """Return the options of Streamlit that the middleware reads, as the project's file has them."""
    values = {
        "server.allowedHosts": ALLOWED,
        "server.corsAllowedOrigins": [],
        "server.maxUploadSize": 64,
    }
    monkeypatch.setattr(config, "get_option", values.__getitem__)
    monkeypatch.setattr(MultiPartParser, "spool_max_size", MultiPartParser.spool_max_size)
    monkeypatch.setattr(session_memory, "_elsewhere", [])
    return values


@pytest.fixture
def client(options) -> TestClient:
    """Return a client of a small app behind the middleware."""

    async def answer(request):
        return PlainTextResponse("here")

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    paths = ("/", "/media/a.png", "/_stcore/health", UPLOAD)
    routes = [Route(path, answer, methods=["GET", "PUT"]) for path in paths]
    app = Starlette(
        routes=[*routes, WebSocketRoute("/_stcore/stream", echo)], middleware=middleware()
    )
    return TestClient(app, base_url="http://localhost:8501")


@pytest.mark.parametrize("path", ["/", "/media/a.png", "/_stcore/health"])
@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_refuses_a_name_that_is_not_its_own(client, path, host):
    response = client.get(path, headers={"host": host})
    assert response.status_code == 421
    assert "--server.allowedHosts" in response.text


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8501", "127.0.0.1:8501", "[::1]:8501", "localhost."]
)
def test_answers_to_the_names_of_this_machine(client, host):
    assert client.get("/", headers={"host": host}).text == "here"


def test_refuses_a_request_of_two_names(client):
    assert (
        client.get("/", headers=[("host", "localhost"), ("host", "evil.example")]).status_code
        == 421
    )


def test_refuses_everything_where_no_name_is_allowed(client, options):
    options["server.allowedHosts"] = []
    assert client.get("/").status_code == 421


def test_answers_to_a_name_that_the_operator_allows(client, options):
    options["server.allowedHosts"] = ["clinic.example.org"]
    assert client.get("/", headers={"host": "clinic.example.org"}).text == "here"


def test_refuses_an_upload_under_another_name(client):
    assert client.put(UPLOAD, content=b"x", headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8501", "origin": "http://evil.example:8501"},
        {"host": "localhost:8501", "origin": "http://evil.example"},
        {"host": "localhost:8501", "origin": "http://localhost:3000"},
        {"host": "localhost:8501", "origin": "null"},
    ],
)
def test_refuses_a_websocket_of_another_page(client, headers):
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/_stcore/stream", headers=headers),
    ):
        pass


@pytest.mark.parametrize("origin", [{}, {"origin": "http://localhost:8501"}])
def test_takes_a_websocket_of_its_own_page(client, origin):
    with client.websocket_connect("/_stcore/stream", headers={"host": "localhost:8501", **origin}):
        pass


def test_takes_a_websocket_of_a_page_that_the_operator_names(client, options):
    options["server.corsAllowedOrigins"] = ["https://clinic.example.org"]
    headers = {"host": "localhost:8501", "origin": "https://clinic.example.org"}
    with client.websocket_connect("/_stcore/stream", headers=headers):
        pass


def test_every_answer_forbids_requests_to_other_servers(client):
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "connect-src 'self' data: blob: ws://localhost:8501" in policy
    assert "http:" not in policy
    assert "*" not in policy


def test_no_image_is_written_to_a_disk(client):
    assert client.get("/media/a.png").headers["cache-control"] == "no-store"
    assert "cache-control" not in client.get("/").headers


def test_an_upload_of_the_greatest_size_stays_in_memory(client):
    client.get("/")
    assert MultiPartParser.spool_max_size > 64 * 2**20


def test_an_upload_without_a_length_is_refused(client):
    response = client.put(UPLOAD, content=iter([b"x"]))
    assert response.status_code == 411


def test_an_upload_that_a_session_has_no_room_for_is_refused(client, monkeypatch):
    monkeypatch.setattr(uploads, "SESSION_LIMIT_BYTES", 10)
    assert client.put(UPLOAD, content=bytes(10)).status_code == 200
    refused = client.put(UPLOAD, content=bytes(11))
    assert (refused.status_code, "at a time" in refused.text) == (413, True)


def test_an_upload_that_the_server_has_no_room_for_is_refused(client, monkeypatch):
    monkeypatch.setenv("CADLIB_MEMORY_MB", "1")
    session = Holding()
    session.take("image", 900_000)
    assert client.put(UPLOAD, content=bytes(100_000)).status_code == 200
    refused = client.put(UPLOAD, content=bytes(100_001))
    assert (refused.status_code, "CADLIB_MEMORY_MB" in refused.text) == (413, True)


def test_a_refused_upload_no_longer_counts(client, monkeypatch):
    monkeypatch.setattr(uploads, "SESSION_LIMIT_BYTES", 10)
    for _ in range(3):
        assert client.put(UPLOAD, content=bytes(11)).status_code == 413
    assert client.put(UPLOAD, content=bytes(10)).status_code == 200


def test_no_address_is_looked_up(monkeypatch):
    monkeypatch.setattr(net_util, "get_external_ip", lambda: pytest.fail("it asked"))
    monkeypatch.setattr(net_util, "get_internal_ip", lambda: pytest.fail("it asked"))
    forbid_lookups()
    assert (net_util.get_external_ip(), net_util.get_internal_ip()) == (None, None)


@pytest.fixture(scope="module")
def memory_after(tmp_path_factory) -> dict:
    """Return the memory of the app after images were read, removed, and their tab closed."""
    command = [sys.executable, "-m", "tests.closed_tab"]
    # A data set would add the images of similar cases, which stay until the session ends.
    env = {name: value for name, value in os.environ.items() if name != "CADLIB_DATA"}
    process = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=150
    )
    assert process.returncode == 0, process.stderr[-2000:]
    memory: dict = json.loads(process.stdout)
    return memory


def test_an_upload_is_let_go_as_soon_as_it_is_read(memory_after):
    assert memory_after["read"]["uploads"] == 0
    assert memory_after["read"]["alive"] == 2


def test_a_removed_image_is_freed_at_once(memory_after):
    assert memory_after["removed_one"]["alive"] == 1
    assert memory_after["removed_all"]["alive"] == 0
    assert memory_after["removed_all"]["held"] == 0
    assert memory_after["removed_all"]["images"] == 1  # the icon of the page


def test_a_disconnected_tab_keeps_its_images_for_a_while(memory_after):
    assert memory_after["closed"]["alive"] == memory_after["soon"]["alive"] == 1
    assert memory_after["soon"]["sessions"] == 1


def test_a_closed_tab_leaves_nothing(memory_after):
    assert memory_after["later"] == {
        "alive": 0,
        "images": 0,
        "downloads": 0,
        "uploads": 0,
        "held": 0,
        "sessions": 0,
    }
