"""What the node knows of a peer, whichever protocol it speaks; `haoxiao.peer.HaoXiaoPeer` is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from bt_selfsecure.bearers.base import Link
from bt_selfsecure.node.metrics import PeerCounters


class NodePeer(Protocol):
    """Keeps what there is with one other node: links, the keys that are agreed on with it, the messages to and from
    it.

    It works in `run`, from start to cancellation. What it raises from there is a fault of this program: it is then
    thrown away, and another one begins from the disk, as after a crash.
    """

    name: str
    """Its name in the configuration; its address where it is a stranger."""
    address: str
    """Its device address."""
    dial: str
    """"auto", "always" or "never"."""

    async def run(self) -> None:
        """Work until cancelled; then all its links are closed."""

    async def send(self, message: bytes, port: int, *, acknowledged: bool) -> int:
        """Queue a message and return its number, when it is on disk, or when the peer has it. Cancelled, it stays
        queued. Raises `MessageTooLongError`, `QueueFullError`, `JournalError`."""

    def carry(self, message: bytes, port: int, done: Callable[[], None]) -> None:
        """Queue a message that need not outlast a crash; `done` is called when the peer has it, or never gets it."""

    async def establish(self, *, wait: bool = False, without_continuity: bool = False) -> dict[str, Any]:
        """Agree on a new key, and return the outcome, as `Established` and `NotEstablished` in api_types.py. With
        `wait` the other end is to begin; `without_continuity`: it need not be the one that was confirmed."""

    def confirm(self, string: str, by: str) -> str:
        """Take what a person, `by` name, says that the other end shows, empty where that is something else; return why
        the peer is not confirmed by that, or nothing. Raises `UnreadableError`, `JournalError`."""

    async def export(self, label: str, length: int, *, after: str, rotate: bool) -> tuple[str, bytes]:
        """Return the id of a generation of keys that both ends hold, and its key of this label, of so many bytes, as
        soon as there is another one than `after`; with `rotate`, go on to the next. Raises `UnreadableError` for the
        label."""

    def begin_with(self, bearer: str, link: Link, *, dialled: bool) -> None:
        """Use this link from the beginning of `run`, in which none is dialled then. `dialled`: this end has dialled
        it."""

    def attach(self, bearer: str, link: Link) -> bool:
        """Use the link that the peer has dialled on this bearer; return False if nobody is here to use it."""

    def adapter_up(self) -> None:
        """Take note that the node's adapter works."""

    async def adapter_gone(self) -> None:
        """Take note that the adapter is gone; return when all links are closed."""

    def sighted(self) -> None:
        """Take note that it was heard near: dial now."""

    def disk(self, *, works: bool) -> None:
        """Take note that the disk refuses, or takes again, what is noted, whosever it is."""

    def shares_key(self, data: bytes) -> bool:
        """Return whether this frame was made with a key that this peer has, by whomever it came."""

    @property
    def has_key(self) -> bool:
        """Return whether a key was agreed on with it."""

    @property
    def is_agreeing(self) -> bool:
        """Return whether an establishment with it is under way."""

    @property
    def idle_s(self) -> float:
        """Return the seconds since its last datagram, or since it is known; 0 while something waits or is under way."""

    @property
    def counts(self) -> PeerCounters:
        """Return the peer's counters since the start."""

    @property
    def link_count(self) -> int:
        """Return the number of its open links."""

    @property
    def own_address(self) -> str:
        """Return the address of this node when it agreed on the key in use; empty where that is not known."""

    @property
    def waiting_messages(self) -> int:
        """Return the number of messages that the peer is not known to have."""

    @property
    def half_received_bytes(self) -> int:
        """Return the length of what has come of a message that is under way."""

    @property
    def silent_s(self) -> float | None:
        """Return the seconds since the last datagram; None where there was none."""

    def status(self) -> dict[str, Any]:
        """Return it as `Peer` in api_peer_types.py, without what only the node knows. No secret."""
