"""Sizes on the wire, and how much of what strangers send is kept."""

from __future__ import annotations

from typing import Final

VERSION: Final = 1
"""What a certificate says first."""
ID_BYTES: Final = 16
KEY_BYTES: Final = 32  # X25519
POINT_BYTES: Final = 64  # x and y on P-256
SIGNATURE_BYTES: Final = 64  # r and s
NONCE_BYTES: Final = 16
MAC_BYTES: Final = 16
SESSION_KEY_BYTES: Final = 32
SESSION_ID_BYTES: Final = 8
MOST_NAME_BYTES: Final = 32
MOST_TIME: Final = (1 << 32) - 1
"""Of seconds since 1970, in four bytes: they end in 2106."""
MOST_NUMBER: Final = (1 << 64) - 1
MOST_CERTIFICATE_BYTES: Final = 232
"""Of the paper's; ours has 230 with the longest name."""
MOST_SIGNATURES: Final = 4
"""Third-party signatures that come with a certificate: so many are verified for one hello at most."""
MOST_LIST_BYTES: Final = 65_536
"""Of a signed list as a file. One that has to reach a device fits a datagram, so `MOST_MESSAGE_BYTES`."""
MOST_ENTRIES: Final = 1024
MOST_MESSAGE_BYTES: Final = 1152
"""Of one message: with DTLS's 29, and the headers of UDP and IPv6, it fits IPv6's least MTU of 1280 bytes."""
CLOCK_SKEW_S: Final = 300
"""Seconds by which another's clock may be ahead of ours."""

MOST_EVENTS: Final = 64
"""Events that wait, of those that strangers cause."""
MOST_READINGS: Final = 32
"""Sensors in one response."""
MOST_TEXT_BYTES: Final = 256
MOST_WORD_BYTES: Final = 32
"""Of a sensor's or a command's name."""
MOST_ASKED: Final = 32
"""Asks of one end that wait for their answers at once."""
MOST_ANSWERS: Final = 64
"""Answers that are kept, to be said again: an ask with a number so far below the highest is too old."""
MOST_READINGS_BYTES: Final = 1024
"""Of all that sensors say at once, encoded."""
MOST_PIECE_BYTES: Final = 1024
"""Of a trust list, in one message."""
MOST_RECORDS: Final = 256
"""In one batch; its bytes are the tighter bound."""
EPOCH_BYTES: Final = 8
