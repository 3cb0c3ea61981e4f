"""What the machines of a group tell their driver."""

from __future__ import annotations

from dataclasses import field

from bt_selfsecure.protocols.haoxiao.group.record import MemberRecord, OwnerRecord
from bt_selfsecure.sansio.events import FrameRejected, Persist
from bt_selfsecure.sansio.value import value


@value
class Post:
    """Give this letter to the session with that peer, port 12, in its durable outbox; with the next record, in one
    transaction. Where there is no room for it, tell `no_room` at once."""

    peer: bytes
    letter: bytes = field(repr=False)


@value
class EpochBegun:
    """Another epoch has begun: the members are as told, and none that was before reads on."""

    epoch: int
    members: int
    bits: float
    """Secret bits of what they have in common of one burst; the 256 of the secret that each was given come on top."""
    why: str


@value
class Settled:
    """All members that are not away have the rounds before this one, or their sessions will give it to them."""

    epoch: int
    number: int


@value
class MemberAway:
    """There was no room for what this member is to have: it misses messages until the next epoch."""

    peer: bytes


@value
class GroupMessage:
    """A message of the group's owner has come: each does once, in order."""

    group: bytes
    name: str
    epoch: int
    number: int
    message: bytes = field(repr=False)
    repaired: bool
    """It came by the session, and not by the broadcast."""


@value
class GroupJoined:
    """This end is a member in that epoch."""

    group: bytes
    name: str
    epoch: int


@value
class GroupLost:
    """This member can't follow any more, and has asked for another epoch: messages until then are lost to it."""

    group: bytes


@value
class GroupEnded:
    """This end is no member any more."""

    group: bytes


OwnerEvent = Post | Persist[OwnerRecord] | EpochBegun | Settled | MemberAway | FrameRejected
ListenerEvent = Post | Persist[MemberRecord] | GroupMessage | GroupJoined | GroupLost | GroupEnded | FrameRejected
