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
    """Holds the client's n-th datagram back until the server has sent one that crosses it (Fig. 11a)."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._held: bytes | None = None

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        if sender is Role.CLIENT:
            self._left -= 1
            if not self._left:
                self._held = data
                return []
        onward = [(sender.peer, data)]
        if sender is Role.SERVER and self._held is not None:
            onward.append((Role.SERVER, self._held))
            self._held = None
        return onward
