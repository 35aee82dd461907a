"""Tests the promises of privacy in a real browser: no request goes to another server, whatever a file contains."""

import io
import json
import os
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from cadlib.images.synthetic import demo_lesions, write_dataset
from cadlib.model.record import CARD_FILE, find_model
from tests.browser.conftest import serving, settle
from tests.browser.test_pages_in_browser import drop
from tests.free_port import free_port
from tests.model_folders import change_file

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

ELSEWHERE = "http://127.0.0.2:9"
HOSTILE = (
    f"![a]({ELSEWHERE}/a.png)",
    f"<img src={ELSEWHERE}/b.png>",
    f"[c](javascript:alert(1)) [d]({ELSEWHERE}/d)",
    ":material/home: :red[e] :smile: $f$",
    f"{ELSEWHERE}/g www.example.org h@example.org",
)
CARD = (
    "# Card\n\n"
    + "\n\n".join(HOSTILE)
    + f"\n\n| a |\n|-|\n| {HOSTILE[0]} |\n\n<iframe src={ELSEWHERE}></iframe>\n"
)


@pytest.fixture
def requested(page):
    """Return the addresses that the page requests, without data in the page itself."""
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.on("websocket", lambda socket: addresses.append(socket.url))
    return addresses


def write_hostile_lesions(table):
    """Replace the lesion ids of the first rows of a table with hostile texts."""
    rows = table.read_text().splitlines()
    place = rows[0].split(",").index("lesion_id")
    for number, text in enumerate(HOSTILE, start=1):
        cells = rows[number].split(",")
        cells[place] = f'"{text}"'
        rows[number] = ",".join(cells)
    table.write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def hostile_server(tmp_path_factory):
    """Return the address of an app whose model card and data set try to reach another server."""
    folder = tmp_path_factory.mktemp("hostile")
    models = folder / "models"
    shutil.copytree(find_model("isic2019"), models / "isic2019")
    change_file(models / "isic2019", CARD_FILE, CARD)
    data = write_dataset(folder / "data" / "set", per_class=2, size_px=64)
    write_hostile_lesions(data / "ISIC_2019_Training_Metadata.csv")
    with ExitStack() as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CADLIB_MODELS", str(models))
            patch.setenv("CADLIB_DATA", str(folder / "data"))
            patch.setenv("CADLIB_CACHE", str(folder / "cache"))
            address = running.enter_context(serving(folder / "log.txt"))
        yield address


def outside(server: str, addresses: list[str]) -> list[str]:
    """Return the addresses that are of another server."""
    own = urlsplit(server).netloc
    return [
        address
        for address in addresses
        if not address.startswith(("data:", "blob:")) and urlsplit(address).netloc != own
    ]


def links(page) -> list[str]:
    """Return the addresses of the links on the page."""
    addresses: list[str] = page.eval_on_selector_all("a[href]", "all => all.map((one) => one.href)")
    return addresses


def test_the_names_of_files_are_shown_as_they_are_and_ask_for_nothing(
    hostile_server, page, requested
):
    lesions = [lesion.png() for lesion in demo_lesions()]
    files = [
        (f"{name}.png", "image/png", data) for name, data in zip(HOSTILE, lesions, strict=False)
    ]
    page.goto(hostile_server)
    drop(page, *files, ("![z](http://127.0.0.2:9/z.png)", "image/png", b"no image"))
    page.get_by_text(f"{len(files) + 1} files").wait_for()
    settle(page)
    for place in range(len(files) + 1):
        choose = page.locator(".st-key-strip [class*=st-key-choose-] button:visible").nth(place)
        choose.hover()
        page.get_by_role("tooltip").first.wait_for()  # it has the name
        choose.click()
        settle(page)
    assert not outside(hostile_server, requested)
    assert not outside(hostile_server, links(page))
    words = page.locator("body").inner_text().replace("\u200b", "")
    assert "![z](http://127.0.0.2:9/z.png)" in words


def test_a_model_card_is_shown_without_links_and_images(hostile_server, page, requested):
    page.goto(f"{hostile_server}/performance")
    page.get_by_role("heading", name="Card", exact=True).wait_for()
    settle(page)
    card = page.locator(".st-key-card")
    assert card.locator("img, iframe, a").count() == 0
    assert f"{ELSEWHERE}/d" in card.inner_text()
    assert not outside(hostile_server, requested)
    assert not outside(hostile_server, links(page))


def test_links_in_a_table_cause_no_request(hostile_server, page, requested):
    page.goto(f"{hostile_server}/dataset")
    page.locator(".tiles-picture").first.wait_for()
    settle(page)
    page.locator(".tiles-tile").first.click()
    page.get_by_role("dialog").get_by_alt_text("Image ISIC_", exact=False).wait_for()
    settle(page)
    assert not outside(hostile_server, requested)
    assert not outside(hostile_server, links(page))


@pytest.fixture
def unwatched(window):
    """Return a tab like `page` that does not fail a test when the browser reports an error."""
    tab = window.new_page()
    tab.set_default_timeout(60_000)
    yield tab
    tab.close()


def test_the_browser_itself_refuses_a_request_to_another_server(server, unwatched):
    unwatched.goto(server)
    unwatched.locator("[data-testid=stFileUploaderDropzone]").wait_for()
    refused = unwatched.evaluate(
        """async (address) => {
          const blocked = new Promise((told) => document.addEventListener(
            "securitypolicyviolation", (event) => told(event.blockedURI)));
          new Image().src = address;
          return await blocked;
        }""",
        f"{ELSEWHERE}/x.png",
    )
    assert refused == f"{ELSEWHERE}/x.png"


def test_the_browser_keeps_no_image_on_its_disk(server, page):
    cache_control: dict[str, str] = {}

    def note_response(response) -> None:
        cache_control[response.url] = response.headers.get("cache-control", "")

    page.on("response", note_response)
    buffer = io.BytesIO()
    Image.new("RGB", (128, 96), (200, 150, 130)).save(buffer, "PNG")
    page.goto(server)
    drop(
        page,
        ("a.png", "image/png", buffer.getvalue()),
        ("b.png", "image/png", demo_lesions()[0].png()),
    )
    page.get_by_text("2 files").wait_for()
    settle(page)
    media = {url: control for url, control in cache_control.items() if "/media/" in url}
    assert media
    assert {*media.values()} == {"no-store"}, json.dumps(media)


def read_lesion(page) -> None:
    """Drop a lesion on the page, and wait for the complete result."""
    drop(page, ("read.png", "image/png", demo_lesions()[0].png()))
    page.get_by_text("same top diagnosis in").wait_for()
    settle(page)


def upload_slowly(page, port: int) -> None:
    """Upload a large file slowly, and end the server meanwhile."""
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    one_uploader(page)
    slow = {
        "offline": False,
        "latency": 0,
        "downloadThroughput": -1,
        "uploadThroughput": 200_000,
    }
    network.send("Network.emulateNetworkConditions", slow)
    drop(page, ("big.png", "image/png", bytes(8_000_000)))
    page.get_by_text("big.png").first.wait_for()
    kill_server(port)
    network.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})


def test_reports_files_lost_by_a_restart_during_upload(tmp_path, unwatched):
    port = free_port()
    # The browser reports the server that is gone.
    page = unwatched
    with serving(tmp_path / "first.txt", port=port) as address:
        page.goto(address)
        read_lesion(page)
        upload_slowly(page, port)
    with serving(tmp_path / "second.txt", port=port):
        page.get_by_text("Files that were being uploaded were not read").wait_for()
        settle(page)
        assert page.get_by_text("big.png").count() == 0
        one_uploader(page)
        read_lesion(page)
        page.get_by_text("Files that were being uploaded were not read").wait_for(state="detached")


def one_uploader(page) -> None:
    """Wait until the uploader of the run before is gone."""
    zones = "document.querySelectorAll('[data-testid=stFileUploaderDropzone]')"
    page.wait_for_function(f"{zones}.length === 1")


def kill_server(port: int) -> None:
    """End the server of that port as a loss of power does."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                line = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"--server.port={port}".encode() in line:
                os.kill(int(process.name), signal.SIGKILL)
