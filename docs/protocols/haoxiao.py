"""Tables and state diagrams of haoxiao.md: run docs/generate.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tables import state_diagram, table

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.establish import MAX_T_1_S, MIN_T_1_S, REPEAT_S, EstablishConfig, Timers
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, mac_bytes
from bt_selfsecure.protocols.haoxiao.group.listener import GroupListener
from bt_selfsecure.protocols.haoxiao.group.tables import LISTENER_FRAMES, LISTENER_TABLE
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.initiator_table import INITIATOR_FRAMES, INITIATOR_TABLE, INITIATOR_TIMERS
from bt_selfsecure.protocols.haoxiao.receiving import RECEIVER_FRAMES, RECEIVER_TABLE, Receiver
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.protocols.haoxiao.responder_table import RESPONDER_FRAMES, RESPONDER_TABLE, RESPONDER_TIMERS
from bt_selfsecure.protocols.haoxiao.sending import SENDER_FRAMES, SENDER_TABLE, SENDER_TIMERS, Sender
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.stats.losses import packets_needed
from bt_selfsecure.word_list import WORDS

VECTORS = Path(__file__).parents[2] / "tests/protocols/haoxiao/vectors/frames.json"
NAMES = {
    Kind.REQUEST: "`request`",
    Kind.ACCEPT: "`accept`",
    Kind.RAND: "`rand`",
    Kind.RAND_COMPACT: "`rand (compact)`",
    Kind.RESPONSE: "`response`",
    Kind.ACKNOWLEDGE: "`acknowledge`",
    Kind.END: "`end`",
    Kind.RAND_LIST: "`rand list`",
    Kind.DATA: "`data`",
    Kind.DATA_ACK: "`ack`",
    Kind.RESYNC_CALL: "`call`",
    Kind.RESYNC_REQUEST: "`resync request`",
    Kind.RESYNC_RESPONSE: "`resync response`",
    Kind.GROUP_FRAGMENT: "`group fragment`",
}
MESSAGES = {
    Kind.REQUEST: "6 / 77 + o",
    Kind.ACCEPT: "14 / 15 + o",
    Kind.ACKNOWLEDGE: "8 / 8 or 40",
    Kind.RAND_LIST: "- / 4 n or 1032",
    Kind.RESPONSE: "8 + c",
    Kind.DATA: "m + 95 / m + 16",
    Kind.DATA_ACK: "34 / 16",
    Kind.RESYNC_CALL: "24 k",
    Kind.RESYNC_REQUEST: "24 + 24 k",
    Kind.GROUP_FRAGMENT: "- / 21",
}
HEADS = {Kind.RAND_COMPACT: 3, Kind.GROUP_FRAGMENT: 2}
VARIES = {
    Kind.RESPONSE: ("c", 3),
    Kind.RAND_LIST: ("4 n", 32),
    Kind.DATA: ("m", 0),
    Kind.RESYNC_CALL: ("24 k", 24),
    Kind.RESYNC_REQUEST: ("24 k", 24),
}
"""What the size of a datagram depends on, and how much of that is in the frame of the vectors."""


FRAMES: Final[list[dict[str, Any]]] = json.loads(VECTORS.read_text())["frames"]


def example(profile: Profile, kind: Kind) -> dict[str, Any]:
    """Return the frame of this kind in the vectors."""
    return next(frame for frame in FRAMES if (frame["profile"], frame["kind"]) == (profile.label, kind.name))


def size_of(frame: dict[str, Any], field: str) -> int:
    return len(bytes.fromhex(frame[field]))


def datagram(profile: Profile, kind: Kind) -> str:
    """Return the size of the vectors' frame, less what varies in it."""
    if kind in (Kind.RAND_LIST, Kind.GROUP_FRAGMENT) and profile is Profile.PAPER:
        return "-"
    frame = example(profile, kind)
    name, contained = VARIES.get(kind, ("", 0))
    if kind is Kind.DATA:
        contained = size_of(frame, "message") - (95 if profile is Profile.PAPER else 16)
    size = str(size_of(frame, "wire") - contained) + (f" + {name}" if name else "")
    if profile is Profile.HARDENED and kind in (Kind.REQUEST, Kind.ACCEPT):
        size += " + o"
    if profile is Profile.HARDENED and kind is Kind.ACKNOWLEDGE:
        size += f" or {size_of(frame, 'wire') + limits.COMMITMENT_BYTES}"
    return size


def burst_packet() -> str:
    """Return the compact burst packet of the vectors, with a line under it that names its fields."""
    frame = example(Profile.HARDENED, Kind.RAND_COMPACT)
    wire = frame["wire"]
    cells = [
        (wire[:2], f"Ver {Profile.HARDENED:d}, Kind {Kind.RAND_COMPACT:d}"),
        (wire[2:6], f"Seq {frame['seq']}"),
        (wire[6:10], "Tag: which establishment"),
        (wire[10:42], "Message: what becomes a part of the key"),
        (wire[42:], "Check"),
    ]
    return "\n".join(f"    {bytes_:<34}{meaning}" for bytes_, meaning in cells)


def in_both(paper: object, hardened: object) -> str:
    return f"{paper}" if paper == hardened else f"{paper} / {hardened}"


def sizes() -> str:
    rows: list[tuple[object, ...]] = [("kind", "", "Phase", "head", "Rand", "Message", "HMAC", "datagram")]
    for kind in Kind:
        frame = example(Profile.HARDENED, kind)
        head = HEADS.get(kind) or (4 if kind.phase else 5)
        hmac = in_both(*(mac_bytes(profile, kind) for profile in Profile))
        hmac += "" if hmac == "0" else " u" if kind <= Kind.RAND_COMPACT or kind is Kind.RAND_LIST else " k"
        total = in_both(*(datagram(profile, kind) for profile in Profile))
        message = MESSAGES.get(kind, str(size_of(frame, "message")))
        rows.append((int(kind), NAMES[kind], kind.phase, head, size_of(frame, "rand"), message, hmac, total))
    return table(*rows)


def timers() -> str:
    default, paper = Timers(), EstablishConfig(bytes(limits.IDENTITY_BYTES), Profile.PAPER)
    session = SessionConfig()
    rows: list[tuple[object, ...]] = [
        ("timer", "default, s", "who waits, and for what"),
        ("T_H", default.t_h, "initiator, from the request: accepts"),
        ("T_W", default.t_w, "initiator, after T_H: the next request"),
        ("T_1", paper.t_1, "initiator, after a part: nothing yet. Default: time of a part (400 packets) and T_2 / 2"),
        ("2 T_1", 2 * paper.t_1, "responder, from the first packet of a part: the others"),
        (
            "2 T_2",
            2 * default.t_2,
            "initiator, after T_1: responses. Responder, after 2 T_1: nothing but an early answer",
        ),
        ("T_3", default.t_3, "initiator, from the acknowledge: nothing but an early end"),
        ("2 T_3", 2 * default.t_3, "responder, after 2 T_2: the acknowledge"),
        ("waiting", default.waiting, "initiator, after T_3: the end packet"),
        ("T_d", default.t_d, "responder: until a further request of one identity is considered"),
        ("interval", paper.interval, "between two burst packets"),
        (
            "repeat",
            REPEAT_S,
            "`hardened`: until list (times an eighth of its pieces), response or acknowledge is sent again",
        ),
        ("settle", default.settle, "`hardened`: after the list of a part, for packets that it overtook"),
        ("timeout", session.timeout, "session: until the first retransmission; doubled at each further one"),
        ("max_timeout", session.max_timeout, "session: the longest time between retransmissions"),
    ]
    return table(*rows)


def limits_table() -> str:
    what = {
        "MAX_LEN": "bytes of Message: Len has 12 bits",
        "MAX_FRAME_BYTES": "bytes of a datagram: longer ones are refused unread",
        "MAX_MESSAGE_BYTES": "bytes of one message of a session",
        "MAX_BURST": "packets of all parts of a burst, so that the bitmap of S fits Len",
        "MAX_RETRAN": "highest Retran, and so the most that Omega can be",
        "LIST_DIGESTS": "packets in one piece of a list",
        "LIST_PIECES_A_REPEAT": "pieces of a list for each `repeat` until all are sent again",
        "MAX_COPIES": "differing packets of one Seq that are kept until the list comes",
        "MAX_RESPONDERS": "responders of one burst",
        "MAX_THROTTLED": "identities whose T_d is remembered",
        "MAX_WRONG_RESPONSES": "wrong responses of one responder and part read; then a fourth of them",
        "MAX_EVENTS": "events that wait for the program; the rejections after that are only counted",
    }
    rows: list[tuple[object, ...]] = [("limit", "")]
    rows += [(f"{getattr(limits, name)}", text) for name, text in what.items()]
    rows.append(("2^47", "rounds of one direction"))
    rows.append((f"{limits.MAX_CHECKPOINT_ROUNDS}", "W"))
    rows.append((f"{MIN_T_1_S:g} to {MAX_T_1_S:g}", "seconds of T_1"))
    return table(*rows)


def words() -> str:
    return "\n".join("    " + " ".join(WORDS[start : start + 16]) for start in range(0, len(WORDS), 16))


def packets() -> str:
    losses = (0.01, 0.05, 0.10, 0.20, 0.50)
    rows = [("e\\|B", *(f"{loss:.0%}" for loss in losses)), ("\\|S\\|", *(packets_needed(128, e) for e in losses))]
    return table(*rows)


def taken() -> str:
    rows: list[tuple[object, ...]] = [("kind", "who takes it", "in which states", "in any other it is")]
    for who, (frames, _, _, table_of_states) in MACHINES.items():
        every = {state for state, _ in table_of_states} | set(table_of_states.values())
        for kind, row in frames.items():
            states = [state.name for state in type(next(iter(row.states))) if state in row.states]
            where = "all" if row.states == every else ", ".join(states)
            otherwise = "" if where == "all" else f"`{row.otherwise.reason.name}`: {row.otherwise.detail}"
            rows.append((NAMES[kind], who, where, otherwise))
    return table(*rows)


MACHINES: dict[str, tuple[Any, Any, type, Any]] = {
    "initiator": (INITIATOR_FRAMES, INITIATOR_TIMERS, Initiator, INITIATOR_TABLE),
    "responder": (RESPONDER_FRAMES, RESPONDER_TIMERS, Responder, RESPONDER_TABLE),
    "sender": (SENDER_FRAMES, SENDER_TIMERS, Sender, SENDER_TABLE),
    "receiver": (RECEIVER_FRAMES, {}, Receiver, RECEIVER_TABLE),
    "group listener": (LISTENER_FRAMES, {}, GroupListener, LISTENER_TABLE),
}


PARTS: Final[dict[str, Callable[[], str]]] = {
    "example": burst_packet,
    "sizes": sizes,
    "taken": taken,
    "words": words,
    "timers": timers,
    "initiator": lambda: state_diagram(INITIATOR_TABLE),
    "responder": lambda: state_diagram(RESPONDER_TABLE),
    "sender": lambda: state_diagram(SENDER_TABLE),
    "receiver": lambda: state_diagram(RECEIVER_TABLE),
    "packets": packets,
    "limits": limits_table,
}
