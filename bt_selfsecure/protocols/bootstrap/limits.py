"""Sizes, waits and bounds of the bootstrapping. All sizes are in bytes."""

from __future__ import annotations

from typing import Final

KEY_BYTES: Final = 16
"""IK, PSK, Kw, SK_cs, RN_i and RN_c: AES-128 is all there is."""
ID_BYTES: Final = 8
TID_BYTES: Final = 8
MOST_TID: Final = (1 << 8 * TID_BYTES) - 1
TS_BYTES: Final = 8
SHORT_TAG_BYTES: Final = 8
"""Of flight 1, which a person may have to type, and of CCM."""

WINDOW_S: Final = 300
"""By so much the clocks of SBR and SBS may differ."""
LIFETIME_S: Final = 365 * 86_400
"""For so long a PSK is in force, from the TS of its flight 2 on."""
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 60.0
"""From one repetition of flights 2, 5 or 6 to the next: doubled each time, up to the last."""
MOST_RETRIES: Final = 3
"""Of flights 2 and 6. Flight 5 is repeated until flight 8 comes."""
TID_BLOCK: Final = 64
"""So many TID an SBR reserves on its disk at once."""

MOST_OPEN: Final = 256
"""Transactions of an SBR that are not done; the oldest goes."""
MOST_EVENTS: Final = 64
"""Events that wait, of those that strangers cause."""
MOST_FRAMES: Final = 64
"""Flights that wait to be taken."""
