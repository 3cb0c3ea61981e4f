"""HTML pages from jinja2's templates: each one file without outside resources."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from bt_selfsecure.wording import counted

ENVIRONMENT: Final = Environment(
    loader=PackageLoader("bt_selfsecure", ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.globals["counted"] = counted


def page(template: str, **values: object) -> str:
    """Return the page that a template makes of these values, which it escapes; equal values give equal pages.

    A template is named by its path in the package: "demo/report.html". Raises jinja2's `UndefinedError` for a value
    that it lacks.
    """
    return "".join(pieces(template, **values))


def pieces(template: str, **values: object) -> Iterator[str]:
    """Return the same page piece by piece, as it is made: a long one all at once takes many times its room."""
    return ENVIRONMENT.get_template(template).generate(values)


def digest(shown: str, element: str) -> str:
    """Return what a content security policy says of a page's one element of this name: nothing else may run."""
    (text,) = re.findall(f"<{element}>(.*?)</{element}>", shown, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
