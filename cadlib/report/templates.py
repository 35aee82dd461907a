"""Loads the HTML templates of this package; they escape every text."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def html_template(name: str) -> Template:
    """Return a template by its file name; a missing value raises an error."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("cadlib.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
