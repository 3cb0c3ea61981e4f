"""Sizes, numbers and times that bearers, the virtual air and whoever plans for them share.

Nothing else is here, so that any system can import it.
"""

from __future__ import annotations

from typing import Final

COMPANY_ID: Final = 0xFFFF
"""Company identifier of our manufacturer data: reserved by the Bluetooth SIG for tests (Assigned Numbers, 7.1)."""
ADVERT_BYTES: Final = 24
"""Longest datagram of `le_advert`: of 31 bytes the head of manufacturer data takes four, and Flags, which Linux adds,
three."""
ACL_PACKET_BYTES: Final = 339
"""Of DH5, the longest baseband packet of BR/EDR (Core Vol 2 Part B 6.5.4.5)."""
L2CAP_HEAD_BYTES: Final = 4
FLUSHABLE_BYTES: Final = ACL_PACKET_BYTES - L2CAP_HEAD_BYTES
"""Longest datagram of `l2cap` that is one baseband packet: a loss takes it whole, and no other."""
FLUSH_TIMEOUT_SLOTS: Final = 2
"""Default of `l2cap`, of 0.625 ms: over before a packet could be repeated."""
PSM: Final = 0x1001
"""Default protocol/service multiplexer of `l2cap`: the first of the range that is free for everybody's use."""
DATAGRAM_BYTES: Final = 5000
"""Longest datagram of `l2cap` and of the bearers in memory: as long as any frame that a protocol of ours knows."""
STREAM_DATAGRAM_BYTES: Final = 0xFFFF
"""Longest datagram of `rfcomm`: its length stands before it, in two bytes."""
UDP_FRAME_BYTES: Final = 1200
"""Longest frame of a session on `ipsp` and `udp`, in one IPv6 packet of the minimum MTU."""
