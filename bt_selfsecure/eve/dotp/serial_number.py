"""The SN from one key: it is the key's upper half. Then every key of both directions, before and after.

In `paper` a key block is one exclusive or away from whoever knows the text in its place, and of a CoAP message the
first octets are no secret. What Eve does not read off is which generator makes the rest; she tries those there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Final

from bt_selfsecure.protocols.dotp.keys import SERIAL_BYTES, SESSION_NUMBERS, SN_BITS, PaperKeys, Policy, paper_key
from bt_selfsecure.protocols.dotp.mt19937 import Mt19937

KEY_EXCHANGE: Final = 2
"""Which of a session's numbers names the key of its handshake."""
MOST_AHEAD: Final = 10_000
"""Numbers of a generator that she makes to see whether it is the one."""


def sn_of_key(key: bytes) -> int:
    """Return the SN in a key of the paper. No guess: [4] writes it there."""
    return int.from_bytes(key[: SN_BITS // 8])


def rn_of_key(key: bytes) -> int:
    """Return the random number in a key of the paper."""
    return int.from_bytes(key[SN_BITS // 8 :])


def key_of_text(datagram: bytes, text: bytes, bits: int = 64) -> bytes:
    """Return the first key block of a datagram whose text begins so; it takes as many octets as a key has."""
    size = bits // 8
    sealed = datagram[SERIAL_BYTES : SERIAL_BYTES + size]
    return (int.from_bytes(sealed) ^ int.from_bytes(text[:size])).to_bytes(len(sealed))


def read(datagrams: Sequence[bytes], sn: int, policy: Policy, bits: int = 64) -> list[bytes]:
    """Return the texts of a direction's datagrams, whichever Eve caught, from that direction's SN."""
    size = bits // 8
    texts: list[bytes] = []
    keys = PaperKeys(sn, policy, bits)
    for datagram in sorted(datagrams):  # the serial comes first
        number, sealed = int.from_bytes(datagram[:SERIAL_BYTES]), datagram[SERIAL_BYTES:]
        pad = b"".join(keys.key(number + each) for each in range(-(-len(sealed) // size)))[: len(sealed)]
        texts.append((int.from_bytes(sealed) ^ int.from_bytes(pad)).to_bytes(len(sealed)))
    return texts


def psk_of_session(psk: bytes, session: int, policy: Policy, bits: int = 64) -> bytes:
    """Return the pre-shared key of any session of the DTLS layer, from that of one: decimal digits, both."""
    sn = int(psk) >> bits - SN_BITS
    return b"%d" % int.from_bytes(PaperKeys(sn, policy, bits).key(SESSION_NUMBERS * session + KEY_EXCHANGE))


def known_of_get(size: int, path: bytes) -> list[int | None]:
    """Return what she knows of a confirmable GET of so many octets for a path of one segment: None for an octet of
    message id or token."""
    token = size - 5 - len(path)
    return [0x40 | token, 0x01, *[None] * (2 + token), 0xB0 | len(path), *path]


def sns_of_known(datagram: bytes, known: Sequence[int | None], policy: Policy, bits: int = 64) -> list[int]:
    """Return the SN under which a datagram's text is what she knows of it.

    Each known octet in a key block's upper half is an octet of SN; she tries all values of those that she lacks, at
    most two, and the rest of what she knows tells them apart.
    """
    return [sn for sn in _candidates(datagram, known, bits // 8) if _fits(read([datagram], sn, policy, bits)[0], known)]


def _candidates(datagram: bytes, known: Sequence[int | None], size: int) -> Iterator[int]:
    """Return each SN that fits what she knows in the upper halves of the key blocks; none where it is too little."""
    octets: list[Sequence[int]] = [range(256)] * (SN_BITS // 8)
    for at, (octet, plain) in enumerate(zip(datagram[SERIAL_BYTES:], known, strict=True)):
        if plain is not None and at % size < len(octets):
            octets[at % size] = (octet ^ plain,)
    if sum(len(each) > 1 for each in octets) <= 2:
        for each in product(*octets):
            yield int.from_bytes(bytes(each))


def _fits(text: bytes, known: Sequence[int | None]) -> bool:
    return all(plain in (None, octet) for octet, plain in zip(text, known, strict=True))


def _mt19937(seed: int) -> Iterator[int]:
    generator = Mt19937(seed)
    while True:
        yield generator.word()


def _minstd(seed: int) -> Iterator[int]:
    state = seed
    while True:
        state = state * 48271 % 0x7FFFFFFF
        yield state


def _mrand48(seed: int) -> Iterator[int]:
    state = seed << 16 | 0x330E
    while True:
        state = (state * 0x5DEECE66D + 0xB) & (1 << 48) - 1
        yield state >> 16


def _xorshift32(seed: int) -> Iterator[int]:
    state = seed
    while True:
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        yield state


GENERATORS: Final[Mapping[str, Callable[[int], Iterator[int]]]] = {
    "MT19937": _mt19937,
    "minstd_rand": _minstd,
    "mrand48": _mrand48,
    "xorshift32": _xorshift32,
}


def generators_that_give(keys: Sequence[bytes], within: int = MOST_AHEAD) -> list[str]:
    """Return the generators whose numbers from the keys' own SN hold those of these 64-bit keys, in this order."""
    found = []
    for name, make in GENERATORS.items():
        numbers, wanted = make(sn_of_key(keys[0])), list(map(rn_of_key, keys))
        for _ in range(within):
            if wanted and next(numbers) == wanted[0]:
                wanted.pop(0)
        if not wanted:
            found.append(name)
    return found


def generators_of_known(datagram: bytes, known: Sequence[int | None]) -> list[tuple[str, int]]:
    """Return the generators, each with its seed, under whose 64-bit keys a datagram's text is what she knows of it:
    keys that follow each other, of which she has the octets where she knows the text."""
    number, sealed = int.from_bytes(datagram[:SERIAL_BYTES]), datagram[SERIAL_BYTES:]
    found: list[tuple[str, int]] = []
    if number > MOST_AHEAD:
        return found
    for sn, (name, make) in product(_candidates(datagram, known, 8), GENERATORS.items()):
        rns = islice(make(sn), number, number - -len(sealed) // 8)
        pad = b"".join(paper_key(sn, rn, 64).to_bytes(8) for rn in rns)
        if _fits(bytes(a ^ b for a, b in zip(sealed, pad, strict=False)), known):
            found.append((name, sn))
    return found
