"""Keeps what a group must have after a crash at its owner, and at a member: one line of JSON each.

The state of a machine *is* its record, as a session's is: frozen, replaced as a whole. Format (keys and messages in
hexadecimal):

    {"format": "bt-selfsecure group", "version": 1, "role": "owner", "group", "name", "epoch", "key", "number", "bits",
     "members": [[identity, state, acknowledged, assured, [repaired, ...]], ...], "pending": [[rand, message], ...]}
    {"format": "bt-selfsecure group", "version": 1, "role": "member", "group", "name", "epoch", "key", "number",
     "early": [[number, rand, message], ...]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Final

from bt_selfsecure.protocols.haoxiao.group import limits
from bt_selfsecure.protocols.haoxiao.group.tables import MemberState
from bt_selfsecure.protocols.haoxiao.limits import IDENTITY_BYTES, KEY_BYTES, NONCE_BYTES
from bt_selfsecure.protocols.haoxiao.record import RecordError
from bt_selfsecure.sansio.value import value

FORMAT: Final = "bt-selfsecure group"
VERSION: Final = 1
_DAMAGED: Final = "what was kept of a group is damaged"


@value
class Pending:
    """Holds a round of which not all members are assured."""

    rand: bytes = field(repr=False)
    message: bytes = field(repr=False)
    text: str = field(init=False, repr=False, compare=False)
    """As it stands in the record: made once, since a record is written at each round."""

    def __post_init__(self) -> None:
        self.text = f'["{self.rand.hex()}","{self.message.hex()}"]'  # type: ignore[misc]


@value
class Membership:
    """Says how far one member is."""

    identity: bytes
    state: MemberState
    acknowledged: int = 0
    """It has all rounds of this epoch before that one."""
    assured: int = 0
    """It has them, or its session will give them to it."""
    repaired: tuple[int, ...] = ()
    """Rounds from there on that its session will give to it."""

    text: str = field(init=False, repr=False, compare=False)
    """As it stands in the record."""

    def __post_init__(self) -> None:
        rounds = f"{self.acknowledged},{self.assured},{list(self.repaired)}"
        self.text = f'["{self.identity.hex()}","{self.state.name}",{rounds}]'  # type: ignore[misc]


@value
class OwnerRecord:
    """Keeps a group at its owner."""

    group: bytes
    """Names it, 8 random bytes."""
    name: str
    epoch: int
    key: bytes = field(repr=False)
    """K_i."""
    number: int
    """i, the number of the next round of this epoch."""
    bits: float
    """Secret bits of what the members have in common of one burst."""
    members: tuple[Membership, ...] = ()
    pending: tuple[Pending, ...] = ()
    """The rounds before `number`, the newest last."""

    @property
    def first(self) -> int:
        """Return the number of the oldest round that is pending."""
        return self.number - len(self.pending)

    def to_json(self) -> str:
        """Return it as one line."""
        members = ",".join([one.text for one in self.members])
        pending = ",".join([one.text for one in self.pending])
        return f'{_head("owner", self)},"bits":{self.bits!r},"members":[{members}],"pending":[{pending}]}}'


@value
class MemberRecord:
    """Keeps a group at one of its members."""

    group: bytes
    name: str
    epoch: int
    key: bytes = field(repr=False)
    number: int
    """The next round of this epoch: all before it were received."""
    early: Mapping[int, Pending] = field(default_factory=dict)
    """Repairs of later rounds, by their numbers."""

    def to_json(self) -> str:
        """Return it as one line."""
        early = json.dumps([[number, one.rand.hex(), one.message.hex()] for number, one in self.early.items()])
        return f'{_head("member", self)},"early":{early}}}'


def _head(role: str, record: OwnerRecord | MemberRecord) -> str:
    """What both have in common, up to where the rest follows. It is written at each round: json takes twice as long."""
    names = f'{{"format":"{FORMAT}","version":{VERSION},"role":"{role}","group":"{record.group.hex()}"'
    state = f'"epoch":{record.epoch},"key":"{record.key.hex()}","number":{record.number}'
    return f'{names},"name":{json.dumps(record.name)},{state}'


def record_of(text: str) -> OwnerRecord | MemberRecord:
    """Return the record that this is. Raises `RecordError`."""
    try:
        fields = json.loads(text)
        if fields["format"] != FORMAT or fields["version"] != VERSION:
            raise RecordError("what was kept of a group is of a newer version of this program: upgrade")
        group, key = _bytes(fields["group"], limits.GROUP_ID_BYTES), _bytes(fields["key"], KEY_BYTES)
        name, epoch, number = str(fields["name"]), _number(fields["epoch"]), _number(fields["number"])
        if fields["role"] == "member":
            early = {_number(n): _pending(rand, message) for n, rand, message in fields["early"]}
            return MemberRecord(group, name, epoch, key, number, early)
        members = tuple(_membership(*of_one) for of_one in fields["members"])
        pending = tuple(_pending(rand, message) for rand, message in fields["pending"])
        if fields["role"] != "owner" or len(pending) > number:
            raise RecordError(_DAMAGED)
        return OwnerRecord(group, name, epoch, key, number, float(fields["bits"]), members, pending)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RecordError(_DAMAGED) from None


def _membership(identity: str, state: str, acknowledged: int, assured: int, repaired: Iterable[int]) -> Membership:
    who, rounds = _bytes(identity, IDENTITY_BYTES), tuple(map(_number, repaired))
    return Membership(who, MemberState[state], _number(acknowledged), _number(assured), rounds)


def _pending(rand: str, message: str) -> Pending:
    return Pending(_bytes(rand, NONCE_BYTES), bytes.fromhex(message))


def _bytes(text: str, size: int) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != size:
        raise RecordError(_DAMAGED)
    return data


def _number(value: int) -> int:
    if not isinstance(value, int) or not 0 <= value < limits.MAX_ROUNDS:
        raise RecordError(_DAMAGED)
    return value
