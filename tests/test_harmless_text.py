"""Shows text of a file unchanged: it has no markup and causes no request."""

import re

import pytest

from cadlib.ui.harmless import card_html, plain, plain_rows

HOSTILE = (
    "![x](http://127.0.0.2/x.png)",
    "<img src=http://127.0.0.2/x.png>",
    "[x](javascript:alert(1))",
    "https://example.org/x",
    "www.example.org",
    "me@example.org",
    ":material/home:",
    ":red[x]",
    ":smile:",
    "$x$",
    "# x",
    "1. x",
    "a\n\n# x",
    "a -> b",
    "&lt;",
)
TABLE_VALUES = (
    "0.81 (0.78 to 0.83)",
    "n = 1,304",
    "−0.03",
    "female",
    "-0.03 ▼",
    "<0.001",
    "learning_rate",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_words_of_a_text_stay(text):
    displayed = re.sub(r"\\(?=[^\w\s])", "", plain(text)).replace("\u200b", "")
    assert displayed.split() == text.split()


@pytest.mark.parametrize("text", TABLE_VALUES)
def test_a_value_in_a_table_stays_as_it_is(text):
    assert plain_rows([{"Images": text}]) == [{"Images": text}]


@pytest.mark.parametrize("text", HOSTILE[:12])
def test_a_cell_of_a_table_is_escaped_where_it_could_lay_out(text):
    assert plain_rows([{text: text}]) == [{plain(text): plain(text)}]


def test_a_card_has_no_link_and_no_image():
    html = card_html(
        "# Model\n\n![a](http://x/a.png) [b](http://x/b) <http://x/c> [d][1] <img src=http://x/e>\n\n"
        "| a |\n|-|\n| ![f](http://x/f) |\n\n[1]: http://x/d\n"
    )
    assert not re.search(r"<(a|img|script|iframe|link)\b", html)
    for address in ("http://x/a.png", "http://x/b", "http://x/c", "http://x/d", "http://x/f"):
        assert address in html
    assert html.count("http://x/c") == 1
    assert "<h3>Model</h3>" in html
    assert "<table>" in html


def test_a_command_can_be_copied_from_a_page():
    command = "python -m cadlib audit --model tiny --data DIR --into-model"
    assert plain(command).replace("\\", "") == command
