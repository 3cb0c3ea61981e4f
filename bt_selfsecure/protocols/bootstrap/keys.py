"""What is computed. AES-128 alone, as the paper has it (section 3): in `paper` bare and as CCM, in `hardened` as CMAC
and CCM with tags of 8 bytes.

paper      PSK = E(RN_i xor RN_c, IK): E(message, key), so IK is the key
hardened   K0 = CMAC(IK, RN_i)          Kw = CMAC(K0, "wrap" ID ID_c TID)
           K1 = CMAC(K0, RN_c)          PSK = CMAC(K1, "psk" ID ID_c TID)
           SK_i = CMAC(PSK, "session")  Kup, Kdown = CMAC(SK_cs, "up"), CMAC(SK_cs, "down")
           nonce = type TID 0000
"""

from __future__ import annotations

from dataclasses import field
from hmac import compare_digest

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from bt_selfsecure.crypto import ccm_open, ccm_seal, cmac
from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.protocols.bootstrap.messages import Flight, Kind, decode, header
from bt_selfsecure.sansio.value import value

# --- hardened ---------------------------------------------------------------------------------------------------------


@value
class NamesOfRun:
    """Says whom a transaction is between, and which it is."""

    node_id: bytes
    controller_id: bytes
    tid: bytes

    @property
    def context(self) -> bytes:
        return self.node_id + self.controller_id + self.tid


@value
class Derived:
    """Holds what SBS and SBI compute of IK and the two numbers."""

    kw: bytes = field(repr=False)
    psk: bytes = field(repr=False)


def wrapping_key(ik: bytes, rn_i: bytes, names: NamesOfRun) -> bytes:
    """Return Kw, under which flight 4 is sealed. It names the controller, so that two controllers whose TID are the
    same never seal under one key and nonce."""
    return cmac(cmac(ik, rn_i), b"wrap" + names.context)


def derive(ik: bytes, rn_i: bytes, rn_c: bytes, names: NamesOfRun) -> Derived:
    """Return Kw and PSK."""
    k0 = cmac(ik, rn_i)
    return Derived(cmac(k0, b"wrap" + names.context), cmac(cmac(k0, rn_c), b"psk" + names.context))


def session_key(psk: bytes) -> bytes:
    """Return SK_i."""
    return cmac(psk, b"session")


def authentication_key(psk: bytes) -> bytes:
    """Return the 32 bytes that go into the establishment of a node with its controller."""
    return cmac(psk, b"btss authentication 1") + cmac(psk, b"btss authentication 2")


def flight_1(ik: bytes, node_id: bytes, rn_i: bytes) -> bytes:
    """Return flight 1."""
    head = bytes([1, Kind.F1]) + node_id + rn_i
    return head + _tag_of_1(ik, head)


def proves_1(ik: bytes, flight: Flight) -> bool:
    """Return whether flight 1 was made with this IK."""
    return compare_digest(_tag_of_1(ik, flight.header), flight.body)


def _tag_of_1(ik: bytes, head: bytes) -> bytes:
    return cmac(cmac(ik, b"f1"), head)[: limits.SHORT_TAG_BYTES]


def flight_5(psk: bytes, flight1: bytes, flight4: bytes) -> bytes:
    """Return flight 5, by which the SBI proves that it has the PSK."""
    head = header(Kind.F5, decode(flight4).tid)
    return head + cmac(cmac(psk, b"confirm i"), flight1 + flight4 + head)


def flight_8(psk: bytes, flight5: bytes) -> bytes:
    """Return flight 8, by which the SBR proves that the network has the PSK in force."""
    head = header(Kind.F8, decode(flight5).tid)
    return head + cmac(cmac(psk, b"confirm c"), head + flight5)


def seal(key: bytes, kind: Kind, tid: bytes, plain: bytes, more: bytes = b"") -> bytes:
    """Return a sealed flight, header and all. `more` is authenticated with it."""
    head = header(kind, tid)
    return head + ccm_seal(key, _nonce(head), plain, head + more)


def unseal(key: bytes, flight: Flight, more: bytes = b"") -> bytes | None:
    """Return what is sealed in a flight; None where it was not sealed under this key."""
    return ccm_open(key, _nonce(flight.header), flight.body, flight.header + more)


def _nonce(head: bytes) -> bytes:
    return head[1:] + bytes(4)


def up_key(sk_cs: bytes) -> bytes:
    """Return the key of flights 2 and 6."""
    return cmac(sk_cs, b"up")


def down_key(sk_cs: bytes) -> bytes:
    """Return the key of flights 3 and 7."""
    return cmac(sk_cs, b"down")


# --- paper ------------------------------------------------------------------------------------------------------------


def ecb(key: bytes, blocks: bytes) -> bytes:
    """Return AES-ECB of whole blocks: E(blocks, key) in the paper's words."""
    cipher = Cipher(AES(key), ECB()).encryptor()
    return cipher.update(blocks) + cipher.finalize()


def ecb_open(key: bytes, blocks: bytes) -> bytes:
    """Return what whole blocks decrypt to: anything at all, where the key is another."""
    cipher = Cipher(AES(key), ECB()).decryptor()
    return cipher.update(blocks) + cipher.finalize()


def xor(one: bytes, other: bytes) -> bytes:
    """Return the bytes of two numbers of one size, added without carry."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def paper_psk(ik: bytes, rn_i: bytes, rn_c: bytes) -> bytes:
    """Return PSK = E(RN_i xor RN_c, IK)."""
    return ecb(ik, xor(rn_i, rn_c))
