"""A handshake that was heard once, played to the server again."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.protocols.sabour.messages import Kind, MessageError, Profile, decode


class Replay:
    """Needs M1 and M3 of one handshake, and a server that has forgotten it. She gets no key by it: what she gets is
    that the server takes the device for present."""

    def __init__(self, profile: Profile) -> None:
        self._profile: Final = profile
        self._tape: Final[dict[Kind, bytes]] = {}

    def record(self, data: bytes) -> None:
        """Record a datagram of the handshake that is to be played."""
        kind = self._kind(data)
        if kind is not None:
            self._tape.setdefault(kind, data)

    def begin(self) -> list[bytes]:
        """Return M1, if she heard it."""
        return [data for kind, data in self._tape.items() if kind is Kind.M1]

    def hear(self, data: bytes) -> list[bytes]:
        """Take M2 of the server, and return M3 of the tape."""
        m3 = self._tape.get(Kind.M3)
        return [m3] if m3 is not None and self._kind(data) is Kind.M2 else []

    def _kind(self, data: bytes) -> Kind | None:
        try:
            return decode(self._profile, data).kind
        except MessageError:
            return None
