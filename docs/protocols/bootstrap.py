"""Tables, diagrams and who has the PSK of bootstrap.md: run docs/generate.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tables import state_diagram, table

from bt_selfsecure.bench.bootstrap.who import RUNS, table_of_who
from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.protocols.bootstrap.events import Refusal
from bt_selfsecure.protocols.bootstrap.messages import CHANNELS, SIZES, Kind, Profile
from bt_selfsecure.protocols.bootstrap.sbi import SBI_FRAMES, SBI_TABLE
from bt_selfsecure.protocols.bootstrap.sbr import SBR_FRAMES, SBR_TABLE
from bt_selfsecure.protocols.bootstrap.sbs import SBS_TABLE

VECTORS = Path(__file__).parents[2] / "tests/protocols/bootstrap/vectors/bootstrap.json"
NOTES = {
    Kind.F1: "SBI to SBR, out of band: ID, RN_i, tag",
    Kind.F2: "SBR to SBS: ID_c, TS, RN_c, flight 1",
    Kind.F3: "SBS to SBR: TS, ID, Kw, PSK",
    Kind.F4: "SBR to SBI, out of band: ID_c, RN_c",
    Kind.F5: "SBI to SBR: the node has the PSK",
    Kind.F6: "SBR to SBS: ID, flight 5",
    Kind.F7: "SBS to SBR: the PSK is in force",
    Kind.F8: "SBR to SBI: the network has it",
}


def example() -> str:
    (row, *_) = json.loads(VECTORS.read_text())["hardened"]
    lines = []
    for kind, note in NOTES.items():
        data = row[f"f{kind.value}"]
        shown = f"{data[:4]} {data[4:20]} {data[20:28]}..."
        lines.append(f"    {kind.value}  {shown:34} {len(data) // 2:2} bytes  {note}")
    return "\n".join(lines)


def sizes() -> str:
    paper, hardened = (SIZES[profile] for profile in (Profile.PAPER, Profile.HARDENED))
    rows: list[tuple[object, ...]] = [("flight", "where", "`paper`", "`hardened`")]
    for kind in Kind:
        where = CHANNELS[Profile.HARDENED][kind].value
        if kind is Kind.F5:
            where += "; in `paper` out of band"
        rows.append((kind.value, where, paper.get(kind, ""), hardened[kind]))
    return table(*rows, ("all", "", f"**{sum(paper.values())}**", f"**{sum(hardened.values())}**"))


def who() -> str:
    head = ("flights that she heard", "`paper`, listening", "`hardened`, listening",
            "`paper`, also writing", "`hardened`, also writing")  # fmt: skip
    rows: list[tuple[object, ...]] = [head]
    for heard, figures in table_of_who():
        cells = [
            f"{'**has it**' if figures[profile, writes] else 'no'} ({figures[profile, writes]} of {RUNS})"
            for writes in (False, True)
            for profile in Profile
        ]
        rows.append((", ".join(str(kind.value) for kind in sorted(heard)) or "none", *cells))
    return table(*rows)


def taken() -> str:
    rows = [
        (whose, kind.value, ", ".join(sorted(state.name for state in row.states)), row.otherwise.detail)
        for whose, frames in (("SBI", SBI_FRAMES), ("SBR", SBR_FRAMES))
        for kind, row in frames.items()
    ]
    return table(("whose", "flight", "is taken in", "in any other state it is rejected as"), *rows)


def waits() -> str:
    return table(
        ("what", "value", "meaning"),
        ("window", f"{limits.WINDOW_S} s", "by so much TS may differ from the server's clock"),
        ("lifetime", f"{limits.LIFETIME_S // 86_400} days", "of a PSK, from TS on"),
        (
            "repetitions",
            f"after {limits.FIRST_RETRY_S:g} s, doubled each time up to {limits.LAST_RETRY_S:g} s",
            f"of flights 2 and 6 {limits.MOST_RETRIES} times, of flight 5 until flight 8 comes",
        ),
        ("open transactions of an SBR", limits.MOST_OPEN, "the oldest goes"),
        ("TID reserved at once", limits.TID_BLOCK, "on the SBR's disk, before the first is used"),
    )


PARTS: Final[dict[str, Callable[[], str]]] = {
    "example": example,
    "sizes": sizes,
    "who": who,
    "sbi": lambda: state_diagram(SBI_TABLE),
    "sbr": lambda: state_diagram(SBR_TABLE),
    "sbs": lambda: state_diagram(SBS_TABLE),
    "taken": taken,
    "waits": waits,
    "refusals": lambda: table(("refusal", "what the server's log says"), *((one.name, one.value) for one in Refusal)),
}
