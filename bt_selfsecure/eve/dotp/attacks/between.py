"""Who decides what comes, and when: the paper's two ways out of step, Fig. 10a and 11a, brought about."""

from __future__ import annotations

from bt_selfsecure.eve.dotp.attacks import Sent
from bt_selfsecure.protocols.dotp.keys import Role


class Drop:
    """Lets the client's n-th datagram not come (Fig. 10a)."""

    def __init__(self, number: int) -> None:
        self._left = number

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        self._left -= sender is Role.CLIENT
        return [(sender.peer, data)] if self._left or sender is Role.SERVER else []


class Hold:
    """Holds an end's n-th datagram back, the client's if no other is named, until the other has sent one that crosses
    it (Fig. 11a)."""

    def __init__(self, number: int, whose: Role = Role.CLIENT) -> None:
        self._left = number
        self._whose = whose
        self._held: bytes | None = None

    @property
    def is_over(self) -> bool:
        """Return whether it has let the datagram go."""
        return self._left <= 0 and self._held is None

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        if sender is self._whose:
            self._left -= 1
            if not self._left:
                self._held = data
                return []
        onward = [(sender.peer, data)]
        if sender is not self._whose and self._held is not None:
            onward.append((sender, self._held))
            self._held = None
        return onward
