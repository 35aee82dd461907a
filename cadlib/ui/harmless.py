"""Turns text from files into text without links or layout."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from markdown_it.token import Token

_APART: Final = "\u200b"
"""A blank without width.

Some rules of Streamlit read text after its escapes are removed: this separates their characters.
"""
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()#+\-!|~$:<>&=])")
_NUMBERED: Final = re.compile(r"^( *\d+)([.)])(?= |$)")
# Control characters end a paragraph, and directional ones turn "gpj.exe" round.
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")
_LINKS: Final = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)(?=[\w-])", re.IGNORECASE)
_SHORTCODES: Final = re.compile(r"(?<=:)(?=[\w+/-]+:)")
# The two dashes of an option stay together, so that a command can be copied from a page.
_ARROWS: Final = re.compile(r"(?<=[<>~-])(?=[=>-])(?!-[A-Za-z])")
_LAYOUT: Final = re.compile(
    r"[\\`*\[\]|~$]|<[a-zA-Z/!?]|^ *>|&[#\w]|(?<!\w)_|_(?!\w)|[<>~-][=>-]"
    r"|://|www\.|@|:[\w+/-]+[:\[]|^ *([#+-]|\d+[.)]) "
)


def plain(text: str) -> str:
    """Return Markdown that shows text as it is: for text that comes from a file or its name."""
    text = _CONTROLS.sub(" ", text)
    # Before the escapes, which would separate the characters that these rules look for.
    for signs in (_LINKS, _SHORTCODES, _ARROWS):
        text = signs.sub(_APART, text)
    escaped = _MARKDOWN.sub(r"\\\1", text)
    # A number at the start of a line would become a list.
    return _NUMBERED.sub(r"\1\\\2", escaped)


def plain_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a table whose heads and cells show their text as it is."""
    safe_rows = []
    for row in rows:
        safe = {}
        for head, value in row.items():
            safe[_cell(head)] = _cell(value)
        safe_rows.append(safe)
    return safe_rows


def card_html(text: str) -> str:
    """Return a model card, which is Markdown, as HTML without links and images.

    Their addresses are shown as text.
    """
    # Only one page shows a card, and no other has to wait for this import.
    from markdown_it import MarkdownIt  # noqa: PLC0415

    # HTML in a card is shown as text.
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            # The headings of a card stand below those of the page. HTML has six levels.
            level = int(token.tag[1:]) + 2
            token.tag = f"h{min(level, 6)}"
        if token.children:
            token.children = _without_addresses(token.children)
    html: str = reader.renderer.render(tokens, reader.options, {})
    return f'<div class="cadlib-card">{html}</div>'


def _cell(value: Any) -> Any:
    # Numbers and plain words stay as they are: a backslash in each "(0.78 to 0.83)" would disturb.
    if isinstance(value, str) and _LAYOUT.search(value):
        return plain(value)
    return value


def _without_addresses(tokens: "Sequence[Token]") -> "list[Token]":
    shown: list[Token] = []
    address = ""
    for token in tokens:
        if token.type == "image":
            shown.append(_text(f"{token.content} ({token.attrs.get('src', '')})"))
        elif token.type == "link_open":
            shown.append(_text(""))
            address = str(token.attrs.get("href", ""))
        elif token.type == "link_close":
            # An address that is its own text is shown once.
            before = "".join(part.content for part in shown)
            shown.append(_text("" if before.endswith(address) else f" ({address})"))
        else:
            shown.append(token)
    return shown


def _text(content: str) -> "Token":
    from markdown_it.token import Token  # noqa: PLC0415 - as above

    token = Token("text", "", 0)
    token.content = content
    return token
