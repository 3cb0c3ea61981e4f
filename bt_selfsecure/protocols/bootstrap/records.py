"""What SBI, SBR and SBS keep across a crash, as versioned records: JSON, each of one line, secrets in hexadecimal.

{"format": "bt-selfsecure bootstrap node", "version": 1, ...}            `NodeRecord`, of the SBS, one a node
{"format": "bt-selfsecure bootstrap transaction", "version": 1, ...}     `Transaction`, of the SBR, one a flight 1
{"format": "bt-selfsecure bootstrap counter", "version": 1, ...}         `TidReservation`, of the SBR
{"format": "bt-selfsecure bootstrap installation", "version": 1, ...}    `Installation`, of the SBI
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Final

from bt_selfsecure.errors import BtSelfSecureError, UnreadableError
from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.protocols.bootstrap.messages import SIZES, Kind, Profile
from bt_selfsecure.sansio.value import value

VERSION: Final = 1
_FORMAT: Final = "bt-selfsecure bootstrap "
COUNTER_KEY: Final = b"counter"
_SIZES: Final = SIZES[Profile.HARDENED]


class BootstrapRecordError(BtSelfSecureError):
    """The stored state can't be used: its text says why, and shows nothing of it."""


@value
class Candidate:
    """Holds a PSK that an SBS has derived, and that its node has not proved to have."""

    controller_id: bytes
    tid: bytes
    psk: bytes = field(repr=False)
    flight5: bytes
    """What the node will send if it has it."""
    until: float
    """When the PSK's lifetime ends, in seconds since 1970."""


@value
class NodeRecord:
    """Holds what an SBS keeps of one node: the key in force, and perhaps one that follows."""

    node_id: bytes
    key: bytes = field(repr=False)
    """IK; after the first join the PSK in force, which then serves as IK."""
    domain: str = ""
    """Only controllers of this domain may let the node join."""
    until: float | None = None
    """When the PSK's lifetime ends; None of an IK."""
    controller_id: bytes = b""
    """By which controller it joined; empty before."""
    candidate: Candidate | None = None
    last: Mapping[bytes, int] = field(default_factory=dict)
    """By controller, the newest TID that was taken: an older flight 2 is a replay."""
    done: bytes = b""
    """TID of the join by which the key came into force, to answer a flight 6 that comes again."""
    revoked: bool = False
    revision: int = 0
    """Counts the changes, so that two programs do not overwrite each other's."""

    @property
    def key_of_row(self) -> bytes:
        return self.node_id

    def to_json(self) -> str:
        candidate = None
        if self.candidate is not None:
            one = self.candidate
            candidate = [one.controller_id.hex(), one.tid.hex(), one.psk.hex(), one.flight5.hex(), one.until]
        return _line(
            "node",
            node_id=self.node_id.hex(),
            key=self.key.hex(),
            domain=self.domain,
            until=self.until,
            controller_id=self.controller_id.hex(),
            candidate=candidate,
            last={controller.hex(): tid for controller, tid in self.last.items()},
            done=self.done.hex(),
            revoked=self.revoked,
            revision=self.revision,
        )


class Step(enum.Enum):
    """Says how far a transaction is."""

    ASKED = "asked"
    """Flight 2 is out."""
    ANSWERED = "answered"
    """Flight 3 came, and flight 4 is out."""
    CONFIRMED = "confirmed"
    """Flight 5 came, and flight 6 is out."""
    DONE = "done"
    """Flight 7 came: the PSK is in force, and flight 8 is out."""


@value
class Transaction:
    """Holds what an SBR keeps of one flight 1."""

    tid: bytes
    node_id: bytes
    flight1: bytes = field(repr=False)
    rn_c: bytes = field(repr=False)
    ts: int
    step: Step = Step.ASKED
    flight4: bytes = b""
    psk: bytes = field(default=b"", repr=False)

    @property
    def key_of_row(self) -> bytes:
        return self.tid

    def to_json(self) -> str:
        return _line(
            "transaction",
            tid=self.tid.hex(),
            node_id=self.node_id.hex(),
            flight1=self.flight1.hex(),
            rn_c=self.rn_c.hex(),
            ts=self.ts,
            step=self.step.value,
            flight4=self.flight4.hex(),
            psk=self.psk.hex(),
        )


@value
class TidReservation:
    """Says up to which TID, exclusive, an SBR may have used them."""

    reserved: int = 1

    @property
    def key_of_row(self) -> bytes:
        return COUNTER_KEY

    def to_json(self) -> str:
        return _line("counter", reserved=self.reserved)


@value
class Installation:
    """Holds what an SBI keeps: the key in force, perhaps one that follows, and the flight 1 that it shows."""

    node_id: bytes
    key: bytes = field(repr=False)
    """IK, or the PSK in force."""
    controllers: tuple[bytes, ...]
    """Of whom a flight 4 is taken."""
    joined: bytes = b""
    """The controller whose PSK is in force; empty before the first join."""
    flight1: bytes = field(default=b"", repr=False)
    """Empty where none is shown."""
    is_of_next: bool = False
    """Whether `flight1` was made with `next_key`, and not with `key`."""
    next_key: bytes = field(default=b"", repr=False)
    """PSK of a flight 4, until flight 8 proves that it is in force; empty where there is none."""
    next_controller: bytes = b""
    flight5: bytes = b""
    """Which proves `next_key`, and is repeated."""

    @property
    def key_of_row(self) -> bytes:
        return self.node_id

    def to_json(self) -> str:
        names = ("node_id", "key", "joined", "flight1", "next_key", "next_controller", "flight5")
        return _line(
            "installation",
            **{name: getattr(self, name).hex() for name in names},
            controllers=[one.hex() for one in self.controllers],
            is_of_next=self.is_of_next,
        )


@value
class Gone:
    """Says that the record of this key is not needed any more: erase it, as it may hold keys."""

    key_of_row: bytes


Record = NodeRecord | Transaction | TidReservation | Installation
Row = Record | Gone


def _line(what: str, **fields: Any) -> str:
    return json.dumps(
        {"format": f"bt-selfsecure bootstrap {what}", "version": VERSION, **fields}, separators=(",", ":")
    )


def read_record(text: str | bytes) -> Record:
    """Return the record that the text is. Raises `BootstrapRecordError`, which shows nothing of the text."""
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("version") != VERSION:
            raise UnreadableError("another version")
        read = _READERS[data["format"].removeprefix(_FORMAT)]
        return read(data)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        what = type(error).__name__  # its text can show what is in the record
        raise BootstrapRecordError(f"a record of bootstrapping is damaged ({what})") from None


def _bytes(text: Any, *sizes: int) -> bytes:
    data = bytes.fromhex(text)
    if len(data) not in sizes:
        raise UnreadableError("a field has another size")
    return data


def _number(number: Any, most: float = limits.MOST_TID) -> int:
    if type(number) is not int or not 0 <= number <= most:
        raise UnreadableError("a number is out of range")
    return number


def _time(seconds: Any) -> float:
    if type(seconds) not in (int, float) or not 0 <= seconds < 1e12:
        raise UnreadableError("a time is out of range")
    return float(seconds)


def _flag(given: Any) -> bool:
    if type(given) is not bool:
        raise UnreadableError("a flag is none")
    return given


def _node(data: dict[str, Any]) -> NodeRecord:
    candidate = None
    if data["candidate"] is not None:
        controller_id, tid, psk, flight5, until = data["candidate"]
        candidate = Candidate(
            _bytes(controller_id, limits.ID_BYTES),
            _bytes(tid, limits.TID_BYTES),
            _bytes(psk, limits.KEY_BYTES),
            _bytes(flight5, _SIZES[Kind.F5]),
            _time(until),
        )
    return NodeRecord(
        _bytes(data["node_id"], limits.ID_BYTES),
        _bytes(data["key"], limits.KEY_BYTES),
        str(data["domain"]),
        None if data["until"] is None else _time(data["until"]),
        _bytes(data["controller_id"], 0, limits.ID_BYTES),
        candidate,
        {_bytes(controller, limits.ID_BYTES): _number(tid) for controller, tid in data["last"].items()},
        _bytes(data["done"], 0, limits.TID_BYTES),
        _flag(data["revoked"]),
        _number(data["revision"]),
    )


def _transaction(data: dict[str, Any]) -> Transaction:
    step = Step(data["step"])
    later = step is not Step.ASKED
    return Transaction(
        _bytes(data["tid"], limits.TID_BYTES),
        _bytes(data["node_id"], limits.ID_BYTES),
        _bytes(data["flight1"], _SIZES[Kind.F1]),
        _bytes(data["rn_c"], limits.KEY_BYTES),
        _number(data["ts"]),
        step,
        _bytes(data["flight4"], _SIZES[Kind.F4] if later else 0),
        _bytes(data["psk"], limits.KEY_BYTES if later else 0),
    )


def _installation(data: dict[str, Any]) -> Installation:
    following = bool(data["next_key"])
    return Installation(
        _bytes(data["node_id"], limits.ID_BYTES),
        _bytes(data["key"], limits.KEY_BYTES),
        tuple(_bytes(one, limits.ID_BYTES) for one in data["controllers"]),
        _bytes(data["joined"], 0, limits.ID_BYTES),
        _bytes(data["flight1"], 0, _SIZES[Kind.F1]),
        _flag(data["is_of_next"]),
        _bytes(data["next_key"], limits.KEY_BYTES if following else 0),
        _bytes(data["next_controller"], limits.ID_BYTES if following else 0),
        _bytes(data["flight5"], _SIZES[Kind.F5] if following else 0),
    )


_READERS: Final[Mapping[str, Callable[[dict[str, Any]], Record]]] = {
    "node": _node,
    "transaction": _transaction,
    "counter": lambda data: TidReservation(_number(data["reserved"])),
    "installation": _installation,
}
