"""Example, limits and attacks of dotp.md, from runs: run docs/generate.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tables import table

from bt_selfsecure.eve.dotp.serial_number import generators_that_give, key_of_text, read, sn_of_key
from bt_selfsecure.protocols.dotp import endpoint, keys, psk
from bt_selfsecure.protocols.dotp.endpoint import Dotp, MessageReceived
from bt_selfsecure.protocols.dotp.keys import PaperKeys, Policy, Profile, Role, direction_sn, paper_key
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.sansio.events import Persist

VECTORS: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "tests/protocols/dotp/vectors/dotp.json").read_text()
)
SN: Final = 1234
GET: Final = bytes.fromhex("40011234b4") + b"time"
ANSWER: Final = bytes.fromhex("60451234ff") + b"pulse 61"


def indented(*rows: tuple[str, str]) -> str:
    width = max(len(left) for left, _ in rows) + 2
    return "\n".join(f"    {left:{width}}{right}".rstrip() for left, right in rows)


def example() -> str:
    datagram, message = VECTORS["hardened"]["directions"][0]["datagrams"][0], VECTORS["messages"][0]
    size = len(message)
    return indented(
        (message, "a GET /time of CoAP, sealed by a new client, is"),
        (datagram[:8], "serial"),
        (datagram[8:40], "tag"),
        (datagram[40 : 40 + size], "the message, encrypted"),
    )


def listen(end: Dotp) -> list[bytes]:
    """Take an end's events, with all written at once; return the messages that came."""
    messages = []
    while (event := end.next_event()) is not None:
        if isinstance(event, Persist):
            end.persisted(event.token)
        elif isinstance(event, MessageReceived):
            messages.append(event.message)
    return messages


def sent(end: Dotp, texts: list[bytes]) -> list[bytes]:
    for text in texts:
        end.send(text, 0.0)
    listen(end)
    return end.frames_to_send(0.0)


def eve() -> str:
    policy = Policy.PER_IO_NRPRNG
    client, server = (Dotp(DotpRecord.paper(role, SN, policy)) for role in Role)
    there, back = sent(client, [GET] * 20), sent(server, [ANSWER] * 20)
    key = key_of_text(there[7], GET[:8])
    sn = sn_of_key(key)
    requests, answers = read(there, sn, policy), read(back, direction_sn(sn, Role.SERVER), policy)
    right = sum(map(bytes.__eq__, requests + answers, [GET] * 20 + [ANSWER] * 20))
    papers = generators_that_give([paper_key(SN, 1930134286, 64).to_bytes(8)])
    return indented(
        (there[7].hex(), "request 8 of 20, as it is on the air"),
        (GET[:8].hex(), "what Eve supposes that it begins with"),
        (key.hex(), "one exclusive or later: a key, SN and RN"),
        (str(sn), "its upper half: SN, read off, not guessed"),
        (str(sn ^ 0xFFFFFFFF), "the other direction's"),
        (f"{right} of 40", "requests and answers that she then reads, all of them before and after"),
        (", ".join(generators_that_give([key])), "the generators known to her that give this key"),
        (", ".join(papers) or "none", "those that give the paper's own example"),
    )


def limits() -> str:
    rows: list[tuple[object, ...]] = [("limit", "`paper`", "`hardened`")]
    paper, hardened = (endpoint.MOST_SKIPPED[profile] for profile in Profile)
    rows += [
        ("numbers of a direction", "2^32; with `per-io-nrprng` also 2^RN's bits", "2^32"),
        ("window, numbers", keys.PAPER_WINDOW, endpoint.HARDENED_WINDOW),
        ("most numbers lost in a row", paper, hardened),
        ("numbers reserved on disk at once", endpoint.RESERVED, endpoint.RESERVED),
        ("bytes of a message", endpoint.MOST_MESSAGE_BYTES, endpoint.MOST_MESSAGE_BYTES),
        ("DTLS sessions reserved at once", psk.RESERVED_SESSIONS, psk.RESERVED_SESSIONS),
        ("most DTLS sessions lost in a row", psk.MOST_SESSIONS_SKIPPED, psk.MOST_SESSIONS_SKIPPED),
    ]
    return table(*rows)


def policies() -> str:
    what = {
        Policy.PER_SESSION: "the generator at each session's first number; the same for all five",
        Policy.PER_IO_INC1: "the generator at each session's first number; then one more each",
        Policy.PER_IO_PRNG: "the generator at each number",
        Policy.PER_IO_NRPRNG: "the generator until it gives one that is not in the list of used ones",
    }
    rows: list[tuple[object, ...]] = [
        ("policy", "RN_n", "the first keys' lower halves", "different ones of 256, RN 8 bits")
    ]
    for policy, text in what.items():
        made, short = PaperKeys(SN, policy), PaperKeys(SN, policy, 40)
        first = ", ".join(made.key(number)[4:].hex() for number in range(3))
        rows.append((f"`{policy.value}`", text, first, len({short.key(number) for number in range(256)})))
    return table(*rows)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "example": example,
    "policies": policies,
    "limits": limits,
    "eve": eve,
}
