"""What the two ends of Sabour's handshake cost beside the curves alone, in one run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median

from bt_selfsecure import curves
from bt_selfsecure.protocols.sabour import primitives
from bt_selfsecure.protocols.sabour.client import Client
from bt_selfsecure.protocols.sabour.config import ClientConfig, ServerConfig
from bt_selfsecure.protocols.sabour.enrolment import Identity
from bt_selfsecure.protocols.sabour.events import Established
from bt_selfsecure.protocols.sabour.server import Server
from bt_selfsecure.sansio.context import EndpointContext

DEVICE, HOST = Identity.generate(os.urandom), Identity.generate(os.urandom)
CONTEXT = EndpointContext(os.urandom)
TURNS = 200


def handshake() -> None:
    client = Client(ClientConfig(DEVICE, HOST.enrolment), CONTEXT)
    server = Server(ServerConfig(HOST, {DEVICE.device_id: DEVICE.enrolment.key}), CONTEXT)
    client.start(0.0)
    for _ in range(2):
        for data in client.frames_to_send(0.0):
            server.receive_frame(data, 0.0)
        for data in server.frames_to_send(0.0):
            client.receive_frame(data, 0.0)
    assert isinstance(client.next_event(), Established)


def curves_alone() -> None:
    """Of both ends: two one-time keys, two agreements, two signatures, two verifications."""
    secrets = os.urandom(32), os.urandom(32)
    shares = [curves.x25519_public(secret) for secret in secrets]
    for secret, share in zip(secrets, reversed(shares), strict=True):
        curves.x25519(secret, share)
    for identity in (DEVICE, HOST):
        signature = primitives.ed25519_sign(identity.seed, b"transcript")
        assert primitives.ed25519_verify(identity.enrolment.key, signature, b"transcript")


def seconds(call: Callable[[], None]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def test_a_handshake_costs_at_most_three_times_its_curves() -> None:
    """In turns, so that both meet the same machine; seen: 1.6 times."""
    pairs = [(seconds(handshake), seconds(curves_alone)) for _ in range(TURNS)]
    whole, curves = (median(times) for times in zip(*pairs, strict=True))
    print(f"\nhandshake {1e6 * whole:.0f} us, its curves {1e6 * curves:.0f} us: {whole / curves:.2f} times")
    assert whole <= 3 * curves
