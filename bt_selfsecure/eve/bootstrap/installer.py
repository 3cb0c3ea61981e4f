"""The installer, or the manufacturer: she has IK, and what she hears out of band. All IDs are known to her."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.protocols.bootstrap import keys, limits
from bt_selfsecure.protocols.bootstrap.messages import FlightError, Kind, Profile, decode, kind_of
from bt_selfsecure.sansio.context import Random

_KEY: Final = limits.KEY_BYTES
TRIES: Final = 256
"""Random RN_c of which she takes the best, where she would choose a PSK and has no formula for RN_c."""


class Installer:
    """Computes a PSK from what she heard, or makes a flight 4 of her own. The latter needs a heard flight 1."""

    def __init__(self, profile: Profile, ik: bytes, node_id: bytes, controller_id: bytes, random: Random) -> None:
        self._profile: Final = profile
        self._ik: Final = ik
        self._node_id: Final = node_id
        self._controller_id: Final = controller_id
        self._random: Final = random
        self._heard: Final[dict[Kind, bytes]] = {}
        self.own_psk: bytes | None = None
        """Of the flight 4 that she made."""

    def hear(self, data: bytes) -> None:
        """Take a flight."""
        try:
            self._heard[kind_of(self._profile, data)] = data
        except FlightError:
            return

    def psk(self) -> bytes | None:
        """Return the PSK, if what she heard tells it."""
        flight1, flight4 = self._heard.get(Kind.F1), self._heard.get(Kind.F4)
        if flight4 is None:
            return None
        if self._profile is Profile.PAPER:
            opened = keys.ecb_open(self._ik, flight4[limits.TID_BYTES :])
            return keys.paper_psk(self._ik, opened[:_KEY], opened[_KEY:])
        if flight1 is None:
            return None
        flight, rn_i = decode(flight4), decode(flight1).rn_i
        names = keys.NamesOfRun(self._node_id, self._controller_id, flight.tid)
        plain = keys.unseal(keys.wrapping_key(self._ik, rn_i, names), flight, flight1)
        return None if plain is None else keys.derive(self._ik, rn_i, plain[-_KEY:], names).psk

    def flight_4(self) -> bytes | None:
        """Return a flight 4 with an RN_c of her own; None where she heard no flight 1."""
        return self._flight_4(self._random(_KEY))

    def flight_4_for(self, psk: bytes) -> bytes | None:
        """Return a flight 4 that gives the node this very PSK, as far as she can."""
        flight1 = self._heard.get(Kind.F1)
        if flight1 is None:
            return None
        if self._profile is Profile.PAPER:
            return self._flight_4(keys.xor(flight1[limits.ID_BYTES :], keys.ecb_open(self._ik, psk)))
        for _ in range(TRIES):  # RN_c is the message of one CMAC, and the PSK another's under its key
            flight4 = self._flight_4(self._random(_KEY))
            if self.own_psk == psk:
                break
        return flight4

    def _flight_4(self, rn_c: bytes) -> bytes | None:
        flight1 = self._heard.get(Kind.F1)
        if flight1 is None:
            return None
        tid = self._random(limits.TID_BYTES)
        if self._profile is Profile.PAPER:
            rn_i = flight1[limits.ID_BYTES :]
            self.own_psk = keys.paper_psk(self._ik, rn_i, rn_c)
            return tid + keys.ecb(self._ik, rn_i + rn_c)
        rn_i = decode(flight1).rn_i
        made = keys.derive(self._ik, rn_i, rn_c, keys.NamesOfRun(self._node_id, self._controller_id, tid))
        self.own_psk = made.psk
        return keys.seal(made.kw, Kind.F4, tid, self._controller_id + rn_c, flight1)
