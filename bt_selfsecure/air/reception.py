"""The one virtual medium's question, whoever carries the packets: who hears this one, and how loud?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from bt_selfsecure.air.models import Distance, LossModel
from bt_selfsecure.errors import UsageError

ReceptionModel = Callable[[str, Sequence[str], float], frozenset[str]]
"""`heard(sender, listeners, now)`: which of the listeners receive the packet that the sender begins to send now."""
Rssi = Callable[[str, str], int | None]
"""`rssi(sender, listener)` in dBm, -127 to 20; None where nothing tells."""


class LossProcess:
    """Holds the loss model in force, and the random numbers that it draws; it may be changed, and its distances moved,
    while devices talk."""

    def __init__(self, model: LossModel, random: Random) -> None:
        self.model = model
        self.random: Final = random

    def heard(self, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        """Return those of the listeners who hear what is sent now: a `ReceptionModel`."""
        return self.model.transmit(self.random, sender, listeners, now)

    def rssi(self, sender: str, listener: str) -> int | None:
        """Return the mean RSSI where the model has distances: an `Rssi`."""
        if not isinstance(self.model, Distance):
            return None
        metres = self.model.metres.get(listener, self.model.metres.get(sender, 1.0))
        return round(min(20.0, max(-127.0, self.model.mean_rssi(metres))))

    def move(self, listener: str, metres: float) -> None:
        """Put a listener at this distance. Raises `UsageError` where the model has no distances."""
        if not isinstance(self.model, Distance):
            raise UsageError("the air in force knows no distances: set one that does, as in distance:alice=3,bob=3")
        self.model.move(listener, metres)
