"""What Eve has: the frames that she heard, and what follows from them by public formats and computation alone."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Frame, FrameError, Kind, Profile, decode
from bt_selfsecure.protocols.haoxiao.material import KeyMaterial, burst_rand, pair_id
from bt_selfsecure.protocols.haoxiao.received_set import ReceivedSetError, decode_received_set
from bt_selfsecure.protocols.haoxiao.suites import SUITES


@dataclass(slots=True)
class Knowledge:
    """Holds what Eve heard of one establishment between one initiator and one responder. Colluding Eves share one of
    these.

    Eve here is a program with today's computing power: she can't break SHA-256, AES or X25519, and she does not guess
    missing packets. She reads everything that she hears; she never sees a variable of the two ends.
    """

    request: Frame | None = None
    accept: Frame | None = None
    response: Frame | None = None
    """The last one, with the final received set."""
    burst: dict[int, bytes] = field(default_factory=dict, repr=False)
    """Message of each burst packet that she heard first, by Seq."""
    heard: int = 0
    """Frames in all."""
    rivals: tuple[Frame, ...] = ()
    """Every response that claims to be of this establishment, by part: one a part, unless somebody forges."""
    more_rivals: int = 0
    """Those that there were too many of to be kept."""
    _decoded: tuple[Frame, frozenset[int] | None] | None = field(default=None, repr=False, compare=False)
    """A response, and its S: it takes long, and is asked for often."""

    def hear(self, data: bytes) -> Frame | None:
        """Take one datagram from her tap, and return the frame, if it is one of ours."""
        try:
            frame = decode(data)
        except FrameError:
            return None
        self.heard += 1
        match frame.kind:
            case Kind.REQUEST if self.request is None or self.request.rand != frame.rand:
                self.request, self.accept, self.response = frame, None, None
                self.burst.clear()
            case Kind.ACCEPT:
                self.accept = self.accept or frame
            case Kind.RAND | Kind.RAND_COMPACT if self._of_this_burst(frame):
                self.burst.setdefault(frame.seq, frame.message)
            case Kind.RESPONSE:
                self.response = frame
            case _:
                pass
        return frame

    def _of_this_burst(self, frame: Frame) -> bool:
        """Without the request she takes any burst packet: the session id is in each of them."""
        compact = frame.kind is Kind.RAND_COMPACT
        return self.request is None or frame.rand == burst_rand(self.request, compact=compact)

    @property
    def received_set(self) -> frozenset[int] | None:
        """Return S, if she heard the response."""
        if self.response is None:
            return None
        if self._decoded is None or self._decoded[0] is not self.response:
            self._decoded = self.response, _received_set(self.response)
        return self._decoded[1]

    @property
    def missing(self) -> frozenset[int] | None:
        """Return the packets of S that she lacks, if she heard the response. One is enough to lock her out."""
        s = self.received_set
        return None if s is None else s - self.burst.keys()

    def initial_key(self, guess: Mapping[int, bytes] | None = None) -> KeyMaterial | None:
        """Return K_0, if what she heard gives it; proved by the response's own HMAC [9], so she never believes in a
        wrong one.

        It takes the response and every burst packet of S, those of `guess` where she heard none; in `hardened` also
        request and accept, and neither X25519 nor an authentication key may be mixed in.
        """
        response, s = self.response, self.received_set
        burst = {**guess, **self.burst} if guess else self.burst
        if response is None or s is None or not s <= burst.keys():
            return None
        request, accept = self.request, self.accept
        if response.profile is Profile.PAPER:  # nothing but the messages enters [7]
            request = accept = response
        if request is None or accept is None or {request.profile, accept.profile} != {response.profile}:
            return None
        messages = [burst[seq] for seq in sorted(s)]
        material = KeyMaterial.derive(request, accept, response.message[limits.PAIR_ID_BYTES :], messages)
        mac = SUITES[response.profile].establishment_mac(material.kd, response)
        return material if hmac.compare_digest(mac, response.mac) else None

    @property
    def pair(self) -> bytes | None:
        """Return the public name of the establishment, if she heard how it began."""
        return pair_id(self.request, self.accept) if self.request and self.accept else None


def _received_set(response: Frame) -> frozenset[int] | None:
    try:
        return frozenset(decode_received_set(response.message[limits.PAIR_ID_BYTES :], limits.MAX_BURST))
    except ReceivedSetError:
        return None
