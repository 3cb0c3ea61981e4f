"""Follows the keys that both ends hold for one purpose: each new one, and that the peer is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Final, Protocol

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.client import ApiError, NodeAwayError, NodeClient
from bt_selfsecure.sansio.value import value

LOOK_S: Final = 2.0
"""Seconds between two looks at whether the peer is there, where somebody wants to know."""
ASK_S: Final = 20.0
"""As long as the node is asked at once, where nobody does."""
RETRY_S: Final = 0.5
_CONNECTED: Final = "connected"
_NOT_YET: Final = 504


@value
class Delivery:
    """Brings a key that the peer's programs can have, too."""

    peer: str
    generation: str
    key: bytes = field(repr=False)


@value
class Lost:
    """Tells that the peer was away for longer than was allowed: it can't be asked whether it has the key still."""

    peer: str
    why: str


class Consumer(Protocol):
    """Hands keys to another program. Its methods raise `UsageError` where that can't be done."""

    def take(self, delivery: Delivery) -> None:
        """Hand this key over, in the place of every earlier one."""

    def lost(self, lost: Lost) -> None:
        """Do what the other program needs where the peer is lost."""


@value
class KeyWish:
    """Says which keys are followed, and how."""

    peer: str
    label: str
    length: int = 32
    rotate_s: float | None = None
    """Seconds from one generation to the next; None leaves that to the other end, and to new keys."""
    lost_s: float | None = None
    """Seconds without the peer after which it is lost; None for never."""


def follow(client: NodeClient, wish: KeyWish, clock: Callable[[], float] = time.monotonic) -> Iterator[Delivery | Lost]:
    """Yield the key that there is, then each that takes its place; `Lost` once each time that the peer, or the node
    itself, is away for too long, and the key of then again when it is back. Without end.

    Raises `ApiError` for what the node refuses for good, as a peer that it does not know.
    """
    after, rotate_at = "", None
    seen_at, is_lost = clock(), False
    while True:
        now = clock()
        due = rotate_at is not None and now >= rotate_at
        longest = ASK_S if wish.lost_s is None else LOOK_S
        wait = longest if rotate_at is None or due else max(0.05, min(longest, rotate_at - now))
        told, why = None, ""
        try:
            told = client.key(wish.peer, wish.label, length=wish.length, after=after, rotate=due, timeout=wait)
        except NodeAwayError as error:
            why = str(error)
            time.sleep(RETRY_S)
        except ApiError as error:
            if error.status != _NOT_YET:
                raise
            why = str(error)
        if told:
            after = told["generation"]
            seen_at, is_lost = clock(), False
            rotate_at = seen_at + wish.rotate_s if wish.rotate_s else None
            yield Delivery(told["peer"], after, told["key"])
        elif wish.lost_s is None:
            continue
        elif _is_connected(client, wish.peer):
            seen_at = clock()
            if is_lost:
                after, is_lost = "", False
        elif not is_lost and clock() - seen_at > wish.lost_s:
            is_lost = True
            yield Lost(wish.peer, why)


def _is_connected(client: NodeClient, peer: str) -> bool:
    try:
        peers = client.peers()
    except UsageError:
        return False
    return any(peer in (one["name"], one["address"]) and one["state"] == _CONNECTED for one in peers)
