"""The tables of peer.md: run docs/generate.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tables import state_diagram

from bt_selfsecure.node.haoxiao.burst import RADIO_TABLE
from bt_selfsecure.node.haoxiao.key_table import KEY_TABLE
from bt_selfsecure.node.haoxiao.peer_links import LINK_TABLE
from bt_selfsecure.node.haoxiao.session_table import SESSION_TABLE

PARTS: Final[dict[str, Callable[[], str]]] = {
    "link": lambda: state_diagram(LINK_TABLE),
    "key": lambda: state_diagram(KEY_TABLE),
    "radio": lambda: state_diagram(RADIO_TABLE),
    "session": lambda: state_diagram(SESSION_TABLE),
}
