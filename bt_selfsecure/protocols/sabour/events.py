"""What the two ends tell their drivers: taken one by one by `next_event()`."""

from __future__ import annotations

import enum

from bt_selfsecure.protocols.sabour.keys import Keys
from bt_selfsecure.sansio.events import FrameRejected as FrameRejected  # as itself: `events` has all of them
from bt_selfsecure.sansio.value import value


class Failure(enum.Enum):
    """Says why a client's handshake ended without a key."""

    NO_ANSWER = "no answer to M1: the server may not know this device id, or can't be reached"
    NO_PROOF = (
        "M2 came, and no M4 that proves the server: another answers in its name, or a key is not the one enrolled"
    )
    REFUSED = "the server says that it does not know this device id (anybody can say so)"
    CLOSED = "the program closed the handshake"


@value
class Established:
    """This end holds the keys, and the other one has proved what its profile lets it prove. A server's client may still
    lack M4: it asks again, or gives up and begins anew."""

    device_id: bytes
    keys: Keys


@value
class HandshakeFailed:
    """The client's handshake has ended without a key."""

    reason: Failure


@value
class UnknownDevice:
    """A server got an M1 of a device that is not enrolled. Log it: in `hardened` the air shows nothing of it."""

    device_id: bytes


@value
class HandshakeExpired:
    """A server got M1 of this device and no M3 that proves it: somebody repeats an old M1, or the device is away."""

    device_id: bytes


Event = FrameRejected | Established | HandshakeFailed | UnknownDevice | HandshakeExpired
