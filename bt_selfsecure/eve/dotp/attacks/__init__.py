"""What Eve tries against D-OTP's object layer, sans-IO: in goes what passes her, out comes what goes on from her.

    reads all from one known text or key   `listening.PadReader`
    sends again, changes, forges           `speaking`: `Replay`, `Change`, `Deafen`, `Impersonate`
    keeps or holds back a datagram         `between`: `Drop`, `Hold`

Each has `hear(sender, data)`: one datagram, and those that go on because of it, each with the end that gets it. Who
only listens hands everything on as it is. docs/attacks.md tells what each yields, from runs.
"""

from __future__ import annotations

from typing import Protocol

from bt_selfsecure.protocols.dotp.keys import PaperKeys, Policy, Role, direction_sn
from bt_selfsecure.sansio.value import value

Sent = tuple[Role, bytes]
"""For whom, and what."""


class Eve(Protocol):
    """Stands, or listens, between the two ends."""

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        """Take a datagram that this end sent, and return what goes on."""
        ...


@value
class Public:
    """Says what everybody knows of a pair: how its keys are made, and nothing that is secret."""

    policy: Policy = Policy.PER_IO_NRPRNG
    bits: int = 64
    serial: bool = True
    two_keys: bool = True

    @property
    def block(self) -> int:
        """Return the bytes that a key covers."""
        return self.bits // 8

    def keys(self, sn: int, sender: Role) -> PaperKeys:
        """Return a direction's keys, of the pair with this SN."""
        return PaperKeys(direction_sn(sn, sender) if self.two_keys else sn, self.policy, self.bits)

    def blocks(self, text: bytes) -> int:
        """Return how many numbers a text takes."""
        return -(-len(text) // self.block)
