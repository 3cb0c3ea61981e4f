"""One round of the session beside one one-way message of the Double Ratchet, and beside its own primitives, bare.

The floor is what the cipher suite must compute for one round at both ends, called in the same way and with nothing
around it: no frames, states, records or events.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from doubleratchet import DoubleRatchet, Header
from doubleratchet.recommended import (
    HashFunction,
    aead_aes_hmac,
    diffie_hellman_ratchet_curve25519,
    kdf_hkdf,
    kdf_separate_hmacs,
)

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.record import Role
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import Durability, SessionConfig
from bt_selfsecure.protocols.haoxiao.suites import hmac_sha256, sha256
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Persist

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

MESSAGE = bytes(range(64))
BATCH, TURNS = 40, 250
"""Batches that are short enough to be left alone on a busy machine now and then, and long enough to be warm."""
MOST_OF_THEIR_TIME = 0.40
MOST_BYTES_MORE = 36


class Pair:
    """Two ends of a session, each with a driver that answers Persist as one with a fast disk does."""

    def __init__(self, profile: Profile, durability: Durability) -> None:
        config = SessionConfig(durability)
        self.alice, self.bob = (
            Session.start(profile, role, bytes(32), config, EndpointContext(os.urandom)) for role in Role
        )
        self.serve(self.alice)
        self.serve(self.bob)

    def serve(self, session: Session) -> None:
        while (event := session.next_event()) is not None:
            if isinstance(event, Persist):
                session.persisted(event.token)

    def round(self) -> tuple[bytes, bytes]:
        """A message from Alice to Bob, and its acknowledgement; the two frames."""
        alice, bob = self.alice, self.bob
        alice.send(MESSAGE, 0.0)
        self.serve(alice)
        (data,) = alice.frames_to_send(0.0)
        bob.receive_frame(data, 0.0)
        self.serve(bob)
        (acknowledgement,) = bob.frames_to_send(0.0)
        alice.receive_frame(acknowledgement, 0.0)
        self.serve(alice)
        return data, acknowledgement

    def batch(self) -> None:
        for _ in range(BATCH):
            self.round()


def floor(key: bytes) -> bytes:
    """One round's primitives of `hardened`: split, seal, split, open, the acknowledgement at both ends, roll twice."""
    header, rand = bytes(9), os.urandom(16)
    ours = HKDFExpand(SHA256, 96, b"btss round").derive(key)
    sealed = AESSIV(ours[:64]).encrypt(rand + MESSAGE, [header])
    ack = hmac_sha256(ours[64:], sealed[:16])
    theirs = HKDFExpand(SHA256, 96, b"btss round").derive(key)
    plain = AESSIV(theirs[:64]).decrypt(sealed, [header])
    assert hmac.compare_digest(ack, hmac_sha256(theirs[64:], sealed[:16]))
    hmac_sha256(key, b"btss next key" + plain[:16] + sha256(plain[16:]) + header + b"\1")
    return hmac_sha256(key, b"btss next key" + rand + sha256(MESSAGE) + header + b"\1")


def floor_batch() -> None:
    key = bytes(32)
    for _ in range(BATCH):
        key = floor(key)


SHA256 = hashes.SHA256()


# --- the Double Ratchet with the algorithms that its specification recommends -----------------------------------------


class Ratchet(diffie_hellman_ratchet_curve25519.DiffieHellmanRatchet):
    pass


class Aead(aead_aes_hmac.AEAD):
    @staticmethod
    def _get_hash_function() -> HashFunction:
        return HashFunction.SHA_256

    @staticmethod
    def _get_info() -> bytes:
        return b"benchmark aead"


class RootKdf(kdf_hkdf.KDF):
    @staticmethod
    def _get_hash_function() -> HashFunction:
        return HashFunction.SHA_256

    @staticmethod
    def _get_info() -> bytes:
        return b"benchmark root"


class MessageKdf(kdf_separate_hmacs.KDF):
    @staticmethod
    def _get_hash_function() -> HashFunction:
        return HashFunction.SHA_256


class Double(DoubleRatchet):
    @staticmethod
    def _build_associated_data(associated_data: bytes, header: Header) -> bytes:
        numbers = header.sending_chain_length.to_bytes(8) + header.previous_sending_chain_length.to_bytes(8)
        return associated_data + header.ratchet_pub + numbers


async def double_pair() -> tuple[DoubleRatchet, DoubleRatchet]:
    parameters = (Ratchet, RootKdf, MessageKdf, b"\x01\x02", 1000, 1000, Aead, bytes(32))
    private = Ratchet._generate_priv()
    alice, first = await Double.encrypt_initial_message(*parameters, Ratchet._derive_pub(private), MESSAGE, b"ad")
    bob, _ = await Double.decrypt_initial_message(*parameters, private, first, b"ad")
    return alice, bob


async def double_batch(alice: DoubleRatchet, bob: DoubleRatchet) -> None:
    for _ in range(BATCH):
        assert await bob.decrypt_message(await alice.encrypt_message(MESSAGE, b"ad"), b"ad") == MESSAGE


# --- measurements -----------------------------------------------------------------------------------------------------


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.mark.parametrize("durability", Durability, ids=lambda durability: durability.value)
def test_one_round_takes_at_most_two_fifths_of_a_double_ratchet_message(
    benchmark: BenchmarkFixture, durability: Durability
) -> None:
    pair = Pair(Profile.HARDENED, durability)
    with asyncio.Runner() as runner:
        alice, bob = runner.run(double_pair())
        ours, theirs, bare = [], [], []
        for _ in range(TURNS):  # in turns, so that all meet the same weather
            ours.append(seconds(pair.batch))
            theirs.append(seconds(lambda: runner.run(double_batch(alice, bob))))
            bare.append(seconds(floor_batch))
    round_us, ratchet_us, floor_us = (min(each) / BATCH * 1e6 for each in (ours, theirs, bare))  # the least disturbed
    ratio = round_us / ratchet_us
    benchmark.extra_info["of a Double Ratchet message"] = round(ratio, 3)
    benchmark.extra_info["times the floor"] = round(round_us / floor_us, 2)
    benchmark(pair.round)
    print(f"\n{durability.value}: a round takes {round_us:.1f} us, a Double Ratchet message {ratchet_us:.1f}", end="")
    print(f" (ratio {ratio:.3f}), the bare primitives {floor_us:.1f} ({round_us / floor_us:.2f} times the floor)")
    assert ratio <= MOST_OF_THEIR_TIME


def test_a_round_of_the_paper_profile(benchmark: BenchmarkFixture) -> None:
    benchmark(Pair(Profile.PAPER, Durability.EVERY_W).round)


def test_data_frame_is_at_most_36_bytes_more_than_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    data, acknowledgement = Pair(Profile.HARDENED, Durability.EVERY_W).round()
    more = len(data) - len(MESSAGE)
    with capsys.disabled():
        print(f"\nDATA: {more} bytes more than the message, {limits.NONCE_BYTES} of them Rand; ", end="")
        print(f"DATA_ACK: {len(acknowledgement)} bytes")
    assert more <= MOST_BYTES_MORE
    assert limits.NONCE_BYTES * 8 == 128
