"""What a channel mends by itself: CRC-16 and Reed-Solomon over GF(256) around a few bytes.

A block is the data, its CRC-16 (polynomial 0x1021, first value 0xFFFF) and `PARITY_BYTES` of Reed-Solomon. Damage up to
half of these is mended; of bytes that are known to be doubtful as many as there are.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any, Final

from bt_selfsecure.errors import UsageError

PARITY_BYTES: Final = 8
CRC_BYTES: Final = 2
ADDED_BYTES: Final = CRC_BYTES + PARITY_BYTES
MOST_DATA_BYTES: Final = 255 - ADDED_BYTES


def protected(data: bytes) -> bytes:
    """Return the block of at most 245 bytes of data. Raises `UsageError` where reedsolo is not installed."""
    return bytes(_code().encode(data + crc_hqx(data, 0xFFFF).to_bytes(CRC_BYTES)))


def mended(block: bytes, doubtful: Sequence[int] = ()) -> bytes | None:
    """Return the data of a block, or None where it can't be mended; `doubtful` are positions of bytes that may be
    wrong. Raises `UsageError` where reedsolo is not installed."""
    from reedsolo import ReedSolomonError

    try:
        whole = bytes(_code().decode(block, erase_pos=list(doubtful))[0])
    except (ReedSolomonError, IndexError, ZeroDivisionError):
        return None
    data, crc = whole[:-CRC_BYTES], whole[-CRC_BYTES:]
    return data if len(whole) >= CRC_BYTES and crc_hqx(data, 0xFFFF).to_bytes(CRC_BYTES) == crc else None


def _code() -> Any:
    try:
        from reedsolo import RSCodec
    except ImportError:
        raise UsageError("sound and light need reedsolo: install it with pip install 'bt-selfsecure[pair]'") from None
    return RSCodec(PARITY_BYTES)
