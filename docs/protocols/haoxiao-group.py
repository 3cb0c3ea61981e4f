"""The example and the state diagrams of haoxiao-group.md: run docs/generate.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tables import state_diagram

from bt_selfsecure.protocols.haoxiao.group.tables import LISTENER_TABLE, MEMBER_TABLE

VECTORS = Path(__file__).parents[2] / "tests/protocols/haoxiao/vectors/group.json"


def fragment() -> str:
    """Return the first fragment of the vectors' second message, with a line under it that names its fields."""
    wire = json.loads(VECTORS.read_text())["epochs"][1]["rounds"][1]["fragments"][0]
    index, count = int(wire[4], 16), int(wire[5], 16)
    cells = [
        (wire[:2], "Ver 3, Kind 13"),
        (wire[2:4], "Seq 1: the round"),
        (wire[4:6], f"Index {index}, of {count} with data"),
        (wire[6:], "Message: a piece of SIV || C"),
    ]
    return "\n".join(f"    {bytes_:<44}{meaning}" for bytes_, meaning in cells)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "example": fragment,
    "member": lambda: state_diagram(MEMBER_TABLE),
    "listener": lambda: state_diagram(LISTENER_TABLE),
}
