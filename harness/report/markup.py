"""From values to a self-contained HTML page: one set of templates, one policy, one style.

What comes in: the name of a template that extends `base.html.j2`, and its values. What goes out:
UTF-8 bytes, the same each time. Every value passes through Jinja2's autoescape; the page's own
policy forbids scripts and requests even so.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.report.tables import Table
from harness.report.wording import SYMBOLS


@dataclass(frozen=True)
class Plate:
    """A figure with the words and numbers that belong to it; `wide` and `narrow` are data URIs.

    `narrow` is "" where a page does without.
    """

    title: str
    lead: str
    wide: str
    narrow: str
    alt: str
    caption: str
    tables: tuple[Table, ...]


def fill(template: str, **view: Any) -> bytes:
    """The template with the values in it; a value it lacks is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        # select_autoescape would leave a .j2 template unescaped
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
    )
    # a global, so that imported macros see it as well
    environment.globals["symbols"] = SYMBOLS
    return environment.get_template(template).render(**view).encode()


def data_uri(svg: bytes) -> str:
    """An SVG that an <img> can hold without a request."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
