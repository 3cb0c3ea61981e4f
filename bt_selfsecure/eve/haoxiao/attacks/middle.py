"""The man in the middle of an establishment that nobody authenticates (row 7)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from bt_selfsecure.crypto import sha256
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.burst_list import list_of
from bt_selfsecure.protocols.haoxiao.frames import Frame, FrameError, Kind, Profile, decode, encode
from bt_selfsecure.protocols.haoxiao.material import KeyMaterial, KeyShare, Offer, burst_rand, nonce_commitment, pair_id
from bt_selfsecure.protocols.haoxiao.received_set import ReceivedSetError, decode_received_set, encode_received_set
from bt_selfsecure.protocols.haoxiao.suites import SUITES
from bt_selfsecure.sansio.context import Random


@dataclass
class VictimContext:
    """Is her establishment with one of the two."""

    request: Frame
    share: KeyShare
    accept: Frame | None = None
    secret: bytes = field(default=b"", repr=False)
    burst: dict[int, bytes] = field(default_factory=dict, repr=False)
    material: KeyMaterial | None = None
    authentication_key: bytes = field(default=b"", repr=False)

    def is_named(self, pair: bytes) -> bool:
        return self.accept is not None and pair == pair_id(self.request, self.accept)

    def derive(self, s: bytes) -> KeyMaterial | None:
        """Return K_0 of this leg, over the received set `s`."""
        try:
            received = decode_received_set(s, limits.MAX_BURST)
            messages = [self.burst[seq] for seq in received]
        except (ReceivedSetError, KeyError):
            return None
        assert self.accept is not None
        self.material = KeyMaterial.derive(
            self.request, self.accept, s, messages, secret=self.secret, authentication_key=self.authentication_key
        )
        return self.material


class ManInTheMiddle:
    """Each frame of one end becomes hers for the other: she is Bob for Alice, and Alice for Bob.

    Needs: Alice and Bob hear her and not each other (she is nearer, or jams). She needs no clock: she speaks when one
    of them has spoken. Holds one K_0 with each where no authentication key is configured; then only the short
    authentication string, compared by people, finds her.
    """

    def __init__(self, random: Random, identity: bytes | None = None, authentication_key: bytes = b"") -> None:
        """`identity`: as whom both ends know her, where their links tell them her address; else the other end's.
        `authentication_key`: of the two ends, where she has it."""
        self._random: Final = random
        self.authentication_key = authentication_key
        """Of the two ends, where she has it; before they begin."""
        self.key_with_bob = b""
        """Where she has another one with Bob."""
        self._identity: Final = identity
        self._rand_data: Final = random(limits.NONCE_BYTES)
        self._nonce: Final = random(limits.NONCE_BYTES)
        self._alice: VictimContext | None = None
        self._bob: VictimContext | None = None
        self._request = b""
        self._accept = b""
        self._opening = b""
        self._pieces: list[bytes] = []
        """The list of the part that she sends to Bob."""
        self.complete = False
        """Whether both ends have what they wait for."""

    def keys(self) -> tuple[bytes, bytes] | None:
        """Return K_0 with Alice and K_0 with Bob, once she has both."""
        legs = (self._alice, self._bob)
        found = [leg.material.k0 for leg in legs if leg and leg.material]
        return (found[0], found[1]) if len(found) == 2 else None

    def hear(self, data: bytes) -> list[bytes]:
        """Take a datagram from either, and return what she sends."""
        try:
            frame = decode(data)
        except FrameError:
            return []
        if frame.kind is not Kind.REQUEST and self._alice and frame.profile is not self._alice.request.profile:
            return []
        match frame.kind:
            case Kind.REQUEST:
                return self._hear_request(frame)
            case Kind.ACCEPT:
                return self._hear_accept(frame)
            case Kind.RAND | Kind.RAND_COMPACT:
                return self._hear_burst(frame)
            case Kind.RAND_LIST:
                return self._hear_list(frame)
            case Kind.RESPONSE:
                return self._hear_response(frame)
            case Kind.ACKNOWLEDGE:
                return self._hear_acknowledge(frame)
            case Kind.END:
                return self._hear_end(frame)
            case _:
                return []

    def _hear_request(self, frame: Frame) -> list[bytes]:
        if self._bob is not None and frame.rand == self._bob.request.rand:
            return []  # her own
        if self._alice is None or self._alice.request != frame:
            offer = Offer.decode(frame.profile, frame.message, accept=False)
            if offer is None:
                return []
            share = KeyShare(self._random if offer.share else None)
            key = self.authentication_key
            self._alice = VictimContext(frame, KeyShare(self._random if offer.share else None), authentication_key=key)
            mine = replace(self._named(offer), commitment=sha256(self._rand_data), share=share.public, names=())
            burst: dict[int, bytes] = {}
            if frame.profile is Profile.HARDENED:
                mine = replace(mine, part=self._draw(burst, 0, offer))
            message = mine.encode(frame.profile, accept=False)
            request = Frame(frame.profile, Kind.REQUEST, rand=self._random(limits.NONCE_BYTES), message=message)
            self._bob = VictimContext(request, share, burst=burst, authentication_key=self.key_with_bob or key)
            self._request = encode(request, seed=self._random(32))
        return [self._request]

    def _draw(self, burst: dict[int, bytes], part: int, offer: Offer) -> bytes:
        """Draw her messages of a part; C of them."""
        size = limits.COMPACT_MESSAGE_BYTES if offer.compact else limits.BURST_MESSAGE_BYTES
        messages = [self._random(size) for _ in range(offer.burst)]
        burst.update(enumerate(messages, part * offer.burst))
        commitment, self._pieces = list_of(messages)
        return commitment

    def _hear_accept(self, frame: Frame) -> list[bytes]:
        alice, bob = self._alice, self._bob
        session = limits.SESSION_ID_BYTES
        if alice is None or bob is None or frame.message[:session] != bob.request.rand[:session]:
            return []
        offer = Offer.decode(frame.profile, frame.message[session:], accept=True)
        theirs = Offer.decode(frame.profile, alice.request.message, accept=False)
        if offer is None or theirs is None:
            return []
        if bob.accept is None:
            bob.accept, bob.secret = frame, bob.share.exchange(offer.share) or b""
            alice.secret = alice.share.exchange(theirs.share) or b""
            mine = replace(self._named(offer), share=alice.share.public, names=()).encode(frame.profile, accept=True)
            message = alice.request.rand[:session] + mine
            alice.accept = Frame(frame.profile, Kind.ACCEPT, rand=self._random(limits.NONCE_BYTES), message=message)
            self._accept = encode(alice.accept, seed=self._random(32))
        return [self._accept]

    def _hear_burst(self, frame: Frame) -> list[bytes]:
        alice, bob = self._alice, self._bob
        compact = frame.kind is Kind.RAND_COMPACT
        if alice is None or bob is None or frame.rand != burst_rand(alice.request, compact=compact):
            return []
        mine = bob.burst.setdefault(frame.seq, self._random(len(frame.message)))
        if len(mine) != len(frame.message):  # the Seq was there in the other form: not Alice's
            return []
        alice.burst[frame.seq] = frame.message
        rand = burst_rand(bob.request, compact=compact)
        return [encode(Frame(frame.profile, frame.kind, 0, frame.seq, rand, mine))]

    def _hear_list(self, frame: Frame) -> list[bytes]:
        """In the place of each piece of Alice's the same of hers."""
        alice, bob = self._alice, self._bob
        if alice is None or bob is None or frame.rand != burst_rand(alice.request, compact=False):
            return []
        offer = Offer.decode(frame.profile, bob.request.message, accept=False)
        place = frame.seq % offer.burst // limits.LIST_DIGESTS if offer else 0
        rand = burst_rand(bob.request, compact=False)
        return [
            encode(Frame(frame.profile, Kind.RAND_LIST, 0, frame.seq, rand, piece))
            for piece in self._pieces[place : place + 1]
        ]

    def _hear_response(self, frame: Frame) -> list[bytes]:
        alice, bob = self._alice, self._bob
        pair, s = frame.message[: limits.PAIR_ID_BYTES], frame.message[limits.PAIR_ID_BYTES :]
        if alice is None or bob is None or alice.accept is None or not bob.is_named(pair):
            return []
        mine = encode_received_set(sorted(alice.burst), max(bob.burst, default=-1) + 1)
        if bob.derive(s) is None or alice.derive(mine) is None:
            return []
        message = pair_id(alice.request, alice.accept) + mine
        return self._sealed(alice, Frame(frame.profile, Kind.RESPONSE, 0, frame.seq, self._commitment, message))

    def _hear_acknowledge(self, frame: Frame) -> list[bytes]:
        if self._alice is None or self._bob is None or not self._alice.is_named(frame.message[: limits.PAIR_ID_BYTES]):
            return []
        assert self._bob.accept is not None
        pair = pair_id(self._bob.request, self._bob.accept)
        if frame.seq:
            return self._open_part(self._bob, frame, pair)
        return self._sealed(self._bob, Frame(frame.profile, Kind.ACKNOWLEDGE, rand=self._rand_data, message=pair))

    def _open_part(self, bob: VictimContext, frame: Frame, pair: bytes) -> list[bytes]:
        """Alice goes on; so does she."""
        offer = Offer.decode(frame.profile, bob.request.message, accept=False)
        if offer is None:
            return []
        if frame.seq * offer.burst not in bob.burst:
            self._opening = self._draw(bob.burst, frame.seq, offer)
        return self._sealed(bob, replace(frame, rand=bytes(limits.NONCE_BYTES), message=pair + self._opening))

    def _hear_end(self, frame: Frame) -> list[bytes]:
        alice, bob = self._alice, self._bob
        if alice is None or bob is None or alice.accept is None:
            return []
        if not bob.is_named(frame.message[: limits.PAIR_ID_BYTES]):
            return []
        self.complete = True
        message = pair_id(alice.request, alice.accept) + self._nonce
        return self._sealed(alice, Frame(frame.profile, Kind.END, message=message))

    def _named(self, offer: Offer) -> Offer:
        return replace(offer, identity=self._identity or offer.identity)

    @property
    def _commitment(self) -> bytes:
        return nonce_commitment(self._nonce)

    def _sealed(self, leg: VictimContext, frame: Frame) -> list[bytes]:
        if leg.material is None:
            return []
        mac = SUITES[frame.profile].establishment_mac(leg.material.kd, frame)
        return [encode(replace(frame, mac=mac))]
