"""M1 without end, in the name of a device."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.protocols.sabour.messages import Kind, Message, Profile, encode
from bt_selfsecure.protocols.sabour.suites import SUITES
from bt_selfsecure.sansio.context import Random


class Flood:
    """Needs a sender in reach of the server, and an id that is enrolled: every M1 shows one."""

    def __init__(self, profile: Profile, device_id: bytes, random: Random) -> None:
        self._profile: Final = profile
        self._device_id: Final = device_id
        self._random: Final = random

    def m1(self) -> bytes:
        """Return the next M1."""
        share = SUITES[self._profile].key_pair(self._random).public
        return encode(self._profile, Message(Kind.M1, self._device_id, share))
