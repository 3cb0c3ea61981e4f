"""Tables and diagrams of pairing.md: run docs/generate.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tables import state_diagram, table

from bt_selfsecure.protocols.pairing import limits
from bt_selfsecure.protocols.pairing.end import COMMON_TABLE
from bt_selfsecure.protocols.pairing.frames import PairingPhase, Why
from bt_selfsecure.protocols.pairing.initiator import INITIATOR_TABLE
from bt_selfsecure.protocols.pairing.responder import RESPONDER_TABLE

VECTORS = Path(__file__).parents[2] / "tests/protocols/pairing/vectors/pairings.json"
SAID = ("A to B, share A", "B to A, share B and tag", "A to B, tag", "B to A, progress: keyed")
FRAMES = (
    ("0xF0", "share A", "run 8, way 1, identity 6, share 32, name", "way: 1 words, 2 code, 3 call"),
    ("0xF1", "share B", "run 8, identity 6, share 32, tag 16, name", ""),
    ("0xF2", "tag A", "run 8, tag 16", ""),
    ("0xF3", "refused", "run 8, why 1", ", ".join(f"{why.value} {why.name.lower()}" for why in Why)),
    (
        "0xF4",
        "progress",
        "run 8, phase 1, tag 16",
        ", ".join(f"{one.value} {one.name.lower()}" for one in PairingPhase),
    ),
)


def example() -> str:
    (row,) = [row for row in json.loads(VECTORS.read_text())["pairings"] if row["way"] == "code"]
    lines = [f"    carried      {row['carried'][:44]}...  {len(row['carried']) // 2} bytes"]
    for data, what in zip(row["frames"], SAID, strict=False):
        lines.append(f"    {data[:2]} {data[2:18]} {data[18:44]:26}...  {len(data) // 2:2} bytes  {what}")
    return "\n".join([*lines, f"    key          {row['key'][:44]}...  32 bytes"])


def times() -> str:
    return table(
        ("what", "seconds"),
        ("between two repetitions", f"{limits.REPEAT_S:g}"),
        ("until A gives up without an answer", f"{limits.ANSWER_S:g}"),
        ("within which A has proved itself to B", f"{limits.RUN_S:g}"),
        ("from the key to the word of both", f"{limits.PATIENCE_S:g}"),
        ("for which a paired end still answers", f"{limits.LINGER_S:g}"),
    )


PARTS: Final[dict[str, Callable[[], str]]] = {
    "example": example,
    "frames": lambda: table(("octet", "frame", "fields", "values"), *FRAMES),
    "initiator": lambda: state_diagram({**INITIATOR_TABLE, **COMMON_TABLE}),
    "responder": lambda: state_diagram({**RESPONDER_TABLE, **COMMON_TABLE}),
    "times": times,
}
