"""Tables, diagrams and attacks of sabour.md: run docs/generate.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tables import state_diagram, table

from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.protocols.sabour.client import CLIENT_FRAMES, CLIENT_TABLE
from bt_selfsecure.protocols.sabour.config import ClientConfig, ServerConfig
from bt_selfsecure.protocols.sabour.enrolment import Identity
from bt_selfsecure.protocols.sabour.events import Failure
from bt_selfsecure.protocols.sabour.messages import Kind, Profile, size
from bt_selfsecure.protocols.sabour.server import SERVER_TABLE

VECTORS = Path(__file__).parents[2] / "tests/protocols/sabour/vectors/handshakes.json"
NOTES = {
    "m1": "octet 0x21, device id, PK_C: the device says who it is",
    "m2": "octet 0x22, PK_S",
    "m3": "octet 0x23, SIG_C: the device proves it",
    "m4": "octet 0x24, SIG_S: the server proves it",
}
IDENTITY = Identity(bytes(limits.DEVICE_ID_BYTES), bytes(limits.SHARE_BYTES))


def example() -> str:
    (row,) = [row for row in json.loads(VECTORS.read_text())["handshakes"] if row["profile"] == "hardened"]
    lines = []
    for name, note in NOTES.items():
        data, parts = row[name], (18, 64) if name == "m1" else (2, 64)
        first = f"{data[:2]} {data[2:18]} " if name == "m1" else f"{data[:2]} "
        shown = data[parts[0] :][:16]
        lines.append(f"    {name.upper()}  {f'{first}{shown}...':42} {len(data) // 2:3} bytes  {note}")
    return "\n".join(lines)


def sizes() -> str:
    rows: list[tuple[object, ...]] = [("message", *(f"`{profile.value}`" for profile in Profile))]
    for kind in Kind:
        cells = ["" if profile.hardened and kind is Kind.REFUSAL else size(profile, kind) for profile in Profile]
        rows.append((kind.name if kind is not Kind.REFUSAL else "refusal", *cells))
    whole = [sum(size(profile, kind) for kind in Kind if kind is not Kind.REFUSAL) for profile in Profile]
    return table(*rows, ("M1 to M4", *(f"**{octets}**" for octets in whole)))


def waits() -> str:
    client = ClientConfig(IDENTITY, IDENTITY.enrolment)
    first = client.timeout
    last = sum(client.wait(sent, 1.0) for sent in range(1, client.most_retransmissions + 2))
    rows = [
        (
            "`timeout`",
            f"{first:g} s",
            "until M1 or M3 is sent again, and up to half as long by chance; doubled each time",
        ),
        ("`retransmissions`", f"{client.most_retransmissions}; 0 in `paper`", f"so a device gives up after {last:g} s"),
        (
            "`half_open`",
            f"{ServerConfig(IDENTITY, {}).half_open:g} s",
            "for which a server waits for M3, and repeats M4",
        ),
        ("handshakes that wait for M3", limits.MOST_HALF_OPEN, "the oldest goes of the device that has most"),
        ("M2 that a device follows", limits.MOST_ANSWERS, "the oldest goes"),
    ]
    return table(("what", "value", "meaning"), *rows)


def taken() -> str:
    rows = [
        (kind.name, ", ".join(sorted(state.name for state in row.states)), row.otherwise.detail)
        for kind, row in CLIENT_FRAMES.items()
    ]
    return table(("message", "a device takes it in", "in any other state it is rejected as"), *rows)


def failures() -> str:
    return table(("failure", "what a person is told"), *((reason.name, reason.value) for reason in Failure))


PARTS: Final[dict[str, Callable[[], str]]] = {
    "example": example,
    "sizes": sizes,
    "waits": waits,
    "device": lambda: state_diagram(CLIENT_TABLE),
    "server": lambda: state_diagram(SERVER_TABLE),
    "taken": taken,
    "failures": failures,
}
