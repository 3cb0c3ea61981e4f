"""The page of the network: one file without outside resources, which asks REST by its reader's token."""

from __future__ import annotations

from functools import cache
from typing import Final

from bt_selfsecure.look.pages import digest, page

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer."""


@cache
def the_page() -> tuple[str, dict[str, str]]:
    """Return the page, and the headers that let it run nothing but its own script."""
    shown = page("iot/cloud/page.html")
    policy = (
        f"default-src 'none'; style-src {digest(shown, 'style')}; script-src {digest(shown, 'script')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return shown, HEADERS | {"Content-Security-Policy": policy}
