"""Our datagrams in advertising data: manufacturer data of our company (Core Supplement Part A 1.4).

| length | 0xFF | company (2) | datagram of up to 27 bytes |
"""

from __future__ import annotations

from typing import Final

from bt_selfsecure.bearers.limits import COMPANY_ID

_MANUFACTURER_DATA: Final = 0xFF


def _head(company: int) -> bytes:
    return bytes([_MANUFACTURER_DATA]) + company.to_bytes(2, "little")


_OUR_HEAD: Final = _head(COMPANY_ID)


def manufacturer_data(datagram: bytes) -> bytes:
    """Return advertising data with this datagram: four bytes longer than it."""
    return bytes([len(_OUR_HEAD) + len(datagram)]) + _OUR_HEAD + datagram


def manufacturer_datagrams(data: bytes, company: int = COMPANY_ID) -> list[bytes]:
    """Return what stands in advertising data as manufacturer data of this company. A field of length 0 ends the data,
    and so does one that is cut off."""
    head = _OUR_HEAD if company == COMPANY_ID else _head(company)
    found: list[bytes] = []
    if head not in data:
        return found
    at, end = 0, len(data)
    while at < end and (length := data[at]):
        begins, at = at + 1, at + 1 + length
        if at > end:
            break
        if data.startswith(head, begins, at):
            found.append(data[begins + len(head) : at])
    return found
