"""Sizes on the wire, and how much of what strangers send is kept."""

from __future__ import annotations

from typing import Final

DEVICE_ID_BYTES: Final = 8
SHARE_BYTES: Final = 32  # X25519, and an Ed25519 key
POINT_BYTES: Final = 64  # x and y of a point on P-256
SIGNATURE_BYTES: Final = 64  # Ed25519, and r and s of ECDSA
HASH_BYTES: Final = 32
GREETING: Final = b"HelloClient"
REFUSAL: Final = b"Device not defined!"

MASTER_SECRET_BYTES: Final = 16
MASTER_SALT_BYTES: Final = 8
SENDER_ID_BYTES: Final = 4  # at most 7 with AES-CCM-16-64-128 (RFC 8613 section 3.3)
MAX_PAYLOAD_BYTES: Final = (1 << 16) - 1  # of AES-CCM with a nonce of 13 bytes

MOST_EVENTS: Final = 64
"""Events that wait, of those that strangers cause."""
MOST_FRAMES: Final = 16
"""Datagrams of a server that wait to be taken."""
MOST_HALF_OPEN: Final = 16
"""Handshakes of a server that wait for M3: so many signatures are verified for one M3 at most."""
MOST_ANSWERS: Final = 4
"""M2 that a client follows at once: one is the server's, the others a stranger's."""
