"""Says what a pairing tells its driver: frozen, the key hidden from repr, taken one by one by `next_event()`."""

from __future__ import annotations

import enum
from dataclasses import field

from bt_selfsecure.sansio.events import FrameRejected
from bt_selfsecure.sansio.value import value


class Failure(enum.Enum):
    """Says why a pairing is over without a peer."""

    NO_ANSWER = "nobody answered"
    WRONG = "the words are others than those that are shown there, or somebody stands between"
    LOCKED = "there were five wrong guesses: new words are needed"
    BUSY = "another device has paired there with this code"
    WAY = "something else is shown there"
    KNOWN = "this device is a peer there already"
    NO_CONFIRMATION = "the other end did not say that all is well"
    WITHDRAWN = "the other end has given it up"
    CLOSED = "it was given up here"


@value
class Keyed:
    """Both ends have the key, and know it of each other."""

    peer: bytes
    """Identity of the other end, 6 bytes."""
    name: str
    """What the other end calls itself; at most 64 bytes of UTF-8, empty where it has said none."""
    key: bytes = field(repr=False)
    """The authentication key of the two, 32 bytes."""


@value
class WrongGuess:
    """Somebody has tried other words than those that are shown here."""

    left: int
    """Guesses that are left."""


@value
class Paired:
    """Both ends have said that all is well."""


@value
class PairingFailed:
    """It is over, and nothing of it may stay. After `Paired` it undoes that: the other end has given up."""

    reason: Failure


@value
class Released:
    """The device that had the key has given up, and nothing of it may stay; what is shown still holds for another."""


Event = Keyed | WrongGuess | Paired | PairingFailed | Released | FrameRejected
