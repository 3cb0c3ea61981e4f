"""Key n of one direction, from what both ends hold: in `paper` by a seeded generator, in `hardened` by a permutation.

paper       SN || RN_n, and RN_n is the seeded generator's, by one of four policies
hardened    AES-256(D, 2c) || AES-256(D, 2c + 1), where c counts within an epoch, and D is the epoch's
"""

from __future__ import annotations

import enum
from typing import Final, Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from bt_selfsecure.crypto import hkdf_expand
from bt_selfsecure.errors import BtSelfSecureError, LocalError
from bt_selfsecure.protocols.dotp.mt19937 import Mt19937

SN_BITS: Final = 32
PAPER_BITS: Final = (40, 64, 96)
"""Sizes of a paper's key: 64 and 96 are the paper's; with 40 its numbers run out after 256."""
HARDENED_BYTES: Final = 32
SESSION_NUMBERS: Final = 5
"""How many numbers make a session: the paper's five CoAP io."""
SERIAL_BYTES: Final = 4
PAPER_WINDOW: Final = 1024
EPOCH_BITS: Final = 16
_BATCH_KEYS: Final = 128
MOST_NUMBERS: Final = 1 << 8 * SERIAL_BYTES


class Profile(enum.Enum):
    """Says which D-OTP it is: both ends must use the same."""

    PAPER = "paper"
    HARDENED = "hardened"


class Policy(enum.Enum):
    """Says when the paper's key changes, and how (its sections 4.3 and 4.4)."""

    PER_SESSION = "per-session"
    PER_IO_INC1 = "per-io-inc1"
    PER_IO_PRNG = "per-io-prng"
    PER_IO_NRPRNG = "per-io-nrprng"


class Role(enum.Enum):
    """Says who this end is: the client's TX is the server's RX."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def peer(self) -> Role:
        return Role.SERVER if self is Role.CLIENT else Role.CLIENT


class ExhaustedError(BtSelfSecureError):
    """Every number of the pair is used, so that D-OTP is suspended: the pair needs a new serial number."""

    def __init__(self) -> None:
        super().__init__("all numbers of this pair are used up, so nothing is sent any more: give both ends a new SN")


class Keys(Protocol):
    """Holds the keys of one direction, by number."""

    @property
    def numbers(self) -> int:
        """Return how many there are."""
        ...

    def key(self, number: int) -> bytes:
        """Return key `number`. Raises `ExhaustedError` past the last, `LocalError` for one that is forgotten."""
        ...

    def forget_before(self, number: int) -> None:
        """Drop what leads to the keys before this one, as far as can be."""
        ...

    @property
    def state(self) -> tuple[int, bytes]:
        """Return the epoch, and the secret from which its keys and later ones follow."""
        ...


def paper_key(sn: int, rn: int, bits: int) -> int:
    """Return SN << (bits - 32) + RN, [4]."""
    return (sn << bits - SN_BITS) + rn


def direction_sn(sn: int, sender: Role) -> int:
    """Return the SN of a direction: the client sends under SN, the server under its ones' complement (Fig. 11b)."""
    return sn if sender is Role.CLIENT else sn ^ (1 << SN_BITS) - 1


class PaperKeys:
    """Makes the paper's keys in order: number n takes all before it, so it keeps the last `PAPER_WINDOW`."""

    def __init__(self, sn: int, policy: Policy, bits: int = 64) -> None:
        if not 0 <= sn < 1 << SN_BITS or bits not in PAPER_BITS:
            raise LocalError(f"an SN has {SN_BITS} bits and a key {', '.join(map(str, PAPER_BITS))}")
        self._sn: Final = sn
        self._policy: Final = policy
        self._bits: Final = bits
        self._rn_bits: Final = bits - SN_BITS
        self._generator: Final = Mt19937(sn)
        self._made = 0
        self._rn = 0
        self._used: Final[list[int]] = []
        self._kept: Final[dict[int, bytes]] = {}

    @property
    def numbers(self) -> int:
        """Return 2^RN's bits where no number may come twice; else what a serial can name."""
        return min(MOST_NUMBERS, 1 << self._rn_bits) if self._policy is Policy.PER_IO_NRPRNG else MOST_NUMBERS

    @property
    def state(self) -> tuple[int, bytes]:
        return 0, self._sn.to_bytes(SN_BITS // 8)

    def key(self, number: int) -> bytes:
        if not 0 <= number < self.numbers:
            raise ExhaustedError
        kept = self._kept
        while self._made <= number:
            kept[self._made] = paper_key(self._sn, self._next_rn(), self._bits).to_bytes(self._bits // 8)
            kept.pop(self._made - PAPER_WINDOW, None)
            self._made += 1
        if number not in kept:
            raise LocalError(f"key {number} is forgotten: the last {PAPER_WINDOW} before {self._made} are kept")
        return kept[number]

    def forget_before(self, number: int) -> None:
        """Do nothing: whoever has SN has every key, whatever is forgotten."""

    def _next_rn(self) -> int:
        policy, step = self._policy, self._made % SESSION_NUMBERS
        if policy is Policy.PER_IO_NRPRNG:
            self._rn = self._generator.bits(self._rn_bits)
            while self._rn in self._used:  # as the paper has it: against all that were, one by one
                self._rn = self._generator.bits(self._rn_bits)
            self._used.append(self._rn)
        elif policy is Policy.PER_IO_PRNG or step == 0:
            self._rn = self._generator.bits(self._rn_bits)
        elif policy is Policy.PER_IO_INC1:
            self._rn = (self._rn + 1) % (1 << self._rn_bits)
        return self._rn


class HardenedKeys:
    """Makes each key by its number, in no particular order. Within an epoch none comes twice: AES is a permutation."""

    numbers: Final = MOST_NUMBERS

    def __init__(self, secret: bytes, epoch: int = 0) -> None:
        if len(secret) != HARDENED_BYTES:
            raise LocalError(f"the key of a pair has {HARDENED_BYTES} bytes, this has {len(secret)}")
        self._secret = secret
        self._epoch = epoch
        self._first, self._batch = -1, b""  # the keys of the last number asked for, and around it

    @classmethod
    def of_pair(cls, secret: bytes, sender: Role) -> HardenedKeys:
        """Return the keys under which this role sends, from what both ends hold."""
        return cls(hkdf_expand(secret, b"btss dotp " + sender.value.encode()))

    @property
    def state(self) -> tuple[int, bytes]:
        return self._epoch, self._secret

    def key(self, number: int) -> bytes:
        first = number & -_BATCH_KEYS
        if first != self._first:
            self._batch = self._make(first)
            self._first = first
        at = (number - first) * HARDENED_BYTES
        return self._batch[at : at + HARDENED_BYTES]

    def forget_before(self, number: int) -> None:
        """Forget the secrets of the epochs before this number's: nobody can compute their keys again."""
        while self._epoch < number >> EPOCH_BITS:
            self._secret = hkdf_expand(self._secret, b"btss dotp next")
            self._epoch += 1
            self._first, self._batch = -1, b""

    def _make(self, first: int) -> bytes:
        """Return a batch of keys: AES over consecutive numbers is what its counter mode makes of zeros."""
        if not 0 <= first < MOST_NUMBERS:
            raise ExhaustedError
        ahead = (first >> EPOCH_BITS) - self._epoch
        if ahead < 0:
            raise LocalError(f"the keys of epoch {first >> EPOCH_BITS} are forgotten: this is epoch {self._epoch}")
        secret = self._secret
        for _ in range(ahead):
            secret = hkdf_expand(secret, b"btss dotp next")
        count = (first & (1 << EPOCH_BITS) - 1) << 1
        cipher = Cipher(algorithms.AES(hkdf_expand(secret, b"btss dotp key")), modes.CTR(count.to_bytes(16)))
        return cipher.encryptor().update(bytes(_BATCH_KEYS * HARDENED_BYTES))


def psk(profile: Profile, key: bytes) -> bytes:
    """Return the octets that DTLS takes as its key: decimal digits as for libcoap's -k, in `hardened` hexadecimal."""
    return str(int.from_bytes(key)).encode() if profile is Profile.PAPER else key.hex().encode()
