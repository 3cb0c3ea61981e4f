"""The two cipher suites: `paper`, equations [2] to [15] to the letter, and `hardened`, fit for our own door.

Both have the same verbs, so that one state machine serves both. Where the paper is silent or contradicts itself, the
table "Interpretations of the paper" in docs/protocols/haoxiao.md counts; its rows are named here as "row n".
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable
from dataclasses import field
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from bt_selfsecure.crypto import hkdf_expand, hkdf_extract, hmac_sha256, sha256
from bt_selfsecure.errors import PeerError
from bt_selfsecure.protocols.haoxiao import limits, oaep
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, encode_round, head
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.value import value

_SEQ_RETRAN: Final = struct.Struct(">QB")
_NEXT_KEY: Final = struct.Struct(f">13s{limits.NONCE_BYTES}s32sQBB")
"""Label, Rand, H(message), Seq, Retran, and the octet with which HKDF-Expand ends its first block."""
_PAPER_DATA: Final = Profile.PAPER << 4 | Kind.DATA
_PAPER_ACK: Final = Profile.PAPER << 4 | Kind.DATA_ACK
_HARDENED_DATA: Final = Profile.HARDENED << 4 | Kind.DATA
_HARDENED_ACK: Final = Profile.HARDENED << 4 | Kind.DATA_ACK
"""First octets of the frames of a round."""
_SHA256: Final = hashes.SHA256()
_hash: Final = hashlib.sha256


class NotAuthentic(PeerError):  # noqa: N818 - a verdict about a frame
    """The frame was not made with this key. `Suite.open` raises nothing else."""


@value
class Attempt:
    """Holds one sealed attempt of one round, as its sender keeps it and its receiver finds it. Its repr shows no
    secret."""

    seq: int
    """The whole number of the round; the wire shows its low 8 bits."""
    retran: int
    """Attempt number; `paper` distinguishes only 0 and not 0."""
    rand: bytes = field(repr=False)
    ack: bytes = field(repr=False)
    """ACK of [13]: only somebody who holds K_A and this very attempt can name it."""


class Suite(Protocol):
    """Computes what the state machines need of a profile. No method keeps state."""

    @property
    def profile(self) -> Profile: ...

    def initial_key(self, messages: Iterable[bytes], transcript: bytes, extra: bytes) -> bytes:
        """Return K_0 from the received burst messages in ascending order of Seq, [6] and [7]; 32 bytes."""
        ...

    def derived_key(self, k0: bytes) -> bytes:
        """Return K_D, [8], which authenticates response, acknowledgement and end; 32 bytes."""
        ...

    def establishment_mac(self, kd: bytes, frame: Frame) -> bytes:
        """Return the HMAC field of a response [9], acknowledgement [10] or end."""
        ...

    def chain_key(self, k0: bytes, label: bytes) -> bytes:
        """Return the first K_i of one direction, from K_0 by label (row 13); 32 bytes."""
        ...

    def continuity_key(self, k0: bytes) -> bytes:
        """Return what the next establishment between the same two mixes in; 32 bytes, none in `paper`."""
        ...

    def split(self, key: bytes) -> bytes:
        """Return the parts of K_i (row 12), K_H || K_E || K_A; 96 bytes."""
        ...

    def seal(
        self, key: bytes, seq: int, retran: int, alpha: int, message: bytes, random: Random
    ) -> tuple[bytes, Attempt]:
        """Return the datagram of one attempt under K_i, [2] and [11] to [13], with fresh Rand, and what its sender must
        keep. `alpha`, the rounds since the last checkpoint, is in P_p of `paper`; in `hardened` it follows from the
        rest."""
        ...

    def open(self, key: bytes, seq: int, frame: Frame) -> tuple[bytes, Attempt]:
        """Return message and attempt of an authentic frame of round `seq`, under K_i. Raises `NotAuthentic`, and
        nothing else."""
        ...

    def acknowledgement(self, attempt: Attempt, alpha: int) -> bytes:
        """Return the datagram that acknowledges this attempt: Seq_ACK, the number of the next round, and ACK of [13].
        `alpha`, the rounds since the last checkpoint with this one, is alpha_r of `paper`."""
        ...

    def roll(self, key: bytes, attempt: Attempt, message: bytes) -> bytes:
        """Return K_{i+1}, [14] and [15]; 32 bytes."""
        ...

    def label_mac(self, key: bytes, label: bytes, data: bytes) -> bytes:
        """Return a 16-byte HMAC under a key of its own label, for resynchronisation."""
        ...

    def resync_key(self, checkpoint: bytes, nonces: bytes) -> bytes:
        """Return the key that two ends go on with after one lost its memory, from a common checkpoint; 32 bytes."""
        ...


def message_digest(messages: Iterable[bytes]) -> bytes:
    """Return H(H(m_0) || ... || H(m_M)), [6] and [7]: `+` is read as concatenation (row 3)."""
    return sha256(b"".join([_hash(message).digest() for message in messages]))


def xor_padded(*operands: bytes) -> bytes:
    """Return the exclusive or of operands right-padded with zeros to the longest (row 11)."""
    width = max(map(len, operands))
    total = 0
    for operand in operands:
        total ^= int.from_bytes(operand.ljust(width, b"\0"))
    return total.to_bytes(width)


class PaperSuite:
    """Computes [2] to [15] to the letter, as docs/protocols/haoxiao.md interprets it. Its weaknesses stay in, shown by
    tests."""

    profile: Final = Profile.PAPER
    _FIELDS: Final = 30  # bytes of P_p before Message: Phase 1, Retran 1, Len 2, Seq 8, alpha 2, Rand 16

    def initial_key(self, messages: Iterable[bytes], transcript: bytes, extra: bytes) -> bytes:
        """Return K_0 by [6] and [7]: nothing but the messages enters."""
        return message_digest(messages)

    def derived_key(self, k0: bytes) -> bytes:
        """Return K_D by [8]: kdf(K_0, 0, 1) = PBKDF2-HMAC-SHA-256, one zero byte as the salt "0", one iteration."""
        return hashlib.pbkdf2_hmac("sha256", k0, b"\0", 1)

    def establishment_mac(self, kd: bytes, frame: Frame) -> bytes:
        """Return [9] HMAC-MD5 over Cpr_s, [10] HMAC-SHA-256 over RandData; of the end, where the paper is silent,
        HMAC-SHA-256 over Message."""
        if frame.kind is Kind.RESPONSE:
            return hmac.digest(kd, frame.message[limits.PAIR_ID_BYTES :], "md5")
        return hmac.digest(kd, frame.rand if frame.kind is Kind.ACKNOWLEDGE else frame.message, "sha256")

    def chain_key(self, k0: bytes, label: bytes) -> bytes:
        return sha256(k0 + label)

    def continuity_key(self, k0: bytes) -> bytes:
        return b""

    def split(self, key: bytes) -> bytes:
        """Return the parts of K_i, each SHA-256(K_i || label) (row 12)."""
        return sha256(key + b"H") + sha256(key + b"E") + sha256(key + b"A")

    def seal(
        self, key: bytes, seq: int, retran: int, alpha: int, message: bytes, random: Random
    ) -> tuple[bytes, Attempt]:
        parts = self.split(key)
        rand = random(limits.NONCE_BYTES)
        padded = oaep.encode(self._plaintext(seq, retran, alpha, rand, message), seed=random(32))
        mac = hmac.digest(parts[:32], padded, "sha256")
        body = self._crypt(parts[32:64], mac, padded)
        data = encode_round(_PAPER_DATA, min(retran, 1), seq, body, mac)
        return data, Attempt(seq, retran, rand, self._ack(parts[64:], padded))

    def open(self, key: bytes, seq: int, frame: Frame) -> tuple[bytes, Attempt]:
        """Return message and attempt of an authentic frame; as in the paper it is decrypted before it is verified (row
        9)."""
        parts = self.split(key)
        padded = self._crypt(parts[32:64], frame.mac, frame.message)
        if not hmac.compare_digest(frame.mac, hmac.digest(parts[:32], padded, "sha256")):
            raise NotAuthentic
        try:
            plain = oaep.decode(padded)
        except oaep.OaepError:
            raise NotAuthentic from None
        alpha = int.from_bytes(plain[12:14])
        rand, message = plain[14 : self._FIELDS], plain[self._FIELDS :]
        if plain != self._plaintext(seq, frame.retran, alpha, rand, message):
            raise NotAuthentic
        return message, Attempt(seq, frame.retran, rand, self._ack(parts[64:], padded))

    def acknowledgement(self, attempt: Attempt, alpha: int) -> bytes:
        ack = attempt.ack + (alpha & 0xFFFF).to_bytes(2)
        return encode_round(_PAPER_ACK, attempt.retran, attempt.seq + 1, ack)

    def roll(self, key: bytes, attempt: Attempt, message: bytes) -> bytes:
        """Return K_{i+1} by [14] for the first attempt, [15] for a retransmission; seq_r - 1 is this round's own
        number."""
        mixed = xor_padded(key, xor_padded(message, attempt.rand))
        if attempt.retran:
            mixed = xor_padded(mixed, attempt.seq.to_bytes(8))
        return sha256(mixed)

    def label_mac(self, key: bytes, label: bytes, data: bytes) -> bytes:
        return hmac.digest(sha256(key + label), data, "sha256")[:16]

    def resync_key(self, checkpoint: bytes, nonces: bytes) -> bytes:
        return sha256(checkpoint + b"resync" + nonces)

    def _plaintext(self, seq: int, retran: int, alpha: int, rand: bytes, message: bytes) -> bytes:
        """Return P_p of [1] in Fig. 2's order (row 1); alpha_s is connected to the data of every attempt."""
        fields = bytes([1, min(retran, 1)]) + len(message).to_bytes(2) + seq.to_bytes(8)
        return fields + (alpha & 0xFFFF).to_bytes(2) + rand + message

    def _crypt(self, k_e: bytes, mac: bytes, data: bytes) -> bytes:
        """[11] by AES-256-CTR; the packet's own HMAC is the synthetic IV (row 8)."""
        return Cipher(algorithms.AES(k_e), modes.CTR(mac[:16])).encryptor().update(data)

    def _ack(self, k_a: bytes, padded: bytes) -> bytes:
        """[13]; exchange() swaps the two halves of P_m (row 12)."""
        half = len(padded) // 2
        return hmac.digest(k_a, padded[half:] + padded[:half], "sha256")


class HardenedSuite:
    """Computes by HKDF (RFC 5869) with labels, AES-256-SIV (RFC 5297) with the header as associated data, HMACs of 128
    bits.

    ACK of [13] is over the SIV alone: that stands for the whole attempt, Rand and header included.
    """

    profile: Final = Profile.HARDENED

    def initial_key(self, messages: Iterable[bytes], transcript: bytes, extra: bytes) -> bytes:
        """Return K_0 by [6] and [7], with the transcript as salt (row 3) and `extra` (X25519 secret, authentication
        key) beside them."""
        return hkdf_expand(hkdf_extract(transcript, message_digest(messages) + extra), b"btss initial key")

    def derived_key(self, k0: bytes) -> bytes:
        return hkdf_expand(k0, b"btss derived key")

    def establishment_mac(self, kd: bytes, frame: Frame) -> bytes:
        """Return the HMAC over the whole frame, so that nothing of it can be exchanged; 16 bytes."""
        return hmac.digest(kd, head(frame) + frame.rand + frame.message, "sha256")[:16]

    def chain_key(self, k0: bytes, label: bytes) -> bytes:
        return hkdf_expand(k0, b"btss chain " + label)

    def continuity_key(self, k0: bytes) -> bytes:
        return hkdf_expand(k0, b"btss continuity")

    def split(self, key: bytes) -> bytes:
        """Return K_H || K_E, which is a key of AES-SIV (RFC 5297 section 2.2: K1 for S2V, K2 for CTR), and K_A."""
        return HKDFExpand(_SHA256, 96, b"btss round").derive(key)

    def seal(
        self, key: bytes, seq: int, retran: int, alpha: int, message: bytes, random: Random
    ) -> tuple[bytes, Attempt]:
        parts = self.split(key)
        rand = random(limits.NONCE_BYTES)
        sealed = AESSIV(parts[:64]).encrypt(rand + message, [_SEQ_RETRAN.pack(seq, retran)])
        mac = sealed[:16]
        data = encode_round(_HARDENED_DATA, retran, seq, sealed[16:], mac)
        return data, Attempt(seq, retran, rand, hmac_sha256(parts[64:], mac)[:16])

    def open(self, key: bytes, seq: int, frame: Frame) -> tuple[bytes, Attempt]:
        mac, sealed, retran = frame.mac, frame.message, frame.retran
        if len(sealed) < limits.NONCE_BYTES:
            raise NotAuthentic
        parts = self.split(key)
        try:
            plain = AESSIV(parts[:64]).decrypt(mac + sealed, [_SEQ_RETRAN.pack(seq, retran)])
        except InvalidTag:
            raise NotAuthentic from None
        rand, message = plain[: limits.NONCE_BYTES], plain[limits.NONCE_BYTES :]
        return message, Attempt(seq, retran, rand, hmac_sha256(parts[64:], mac)[:16])

    def acknowledgement(self, attempt: Attempt, alpha: int) -> bytes:
        return encode_round(_HARDENED_ACK, attempt.retran, attempt.seq + 1, attempt.ack)

    def roll(self, key: bytes, attempt: Attempt, message: bytes) -> bytes:
        """Return K_{i+1} by HKDF over (K_i, Rand, H(message), Seq, Retran) (row 11). K_i is a key already, so expansion
        is enough."""
        info = _NEXT_KEY.pack(b"btss next key", attempt.rand, _hash(message).digest(), attempt.seq, attempt.retran, 1)
        return hmac_sha256(key, info)

    def label_mac(self, key: bytes, label: bytes, data: bytes) -> bytes:
        return hmac.digest(hkdf_expand(key, b"btss mac " + label), data, "sha256")[:16]

    def resync_key(self, checkpoint: bytes, nonces: bytes) -> bytes:
        return hkdf_expand(hkdf_extract(checkpoint, nonces), b"btss resync")


PAPER: Final[Suite] = PaperSuite()
HARDENED: Final[Suite] = HardenedSuite()
SUITES: Final[dict[Profile, Suite]] = {Profile.PAPER: PAPER, Profile.HARDENED: HARDENED}
