"""Reads the content of a page in tests."""

import json

from streamlit.testing.v1 import AppTest


def words(app: AppTest) -> str:
    """Return all text on the page."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.info, app.warning, app.error)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def mounted(app: AppTest, name: str, key: str = "") -> list[dict]:
    """Return the data of each component of this name, and of this key if there is one."""
    protos = [component.proto for component in app.get("bidi_component")]
    return [
        json.loads(p.json)
        for p in protos
        if p.component_name == f"cadlib-{name}" and p.id.endswith(key)
    ]


def tiles(app: AppTest, key: str = "gallery") -> list[dict]:
    """Return the tiles of the page that the browser was sent last; none where there is no such gallery."""
    return [tile for gallery in mounted(app, "tiles", key) for tile in gallery["tiles"]]
