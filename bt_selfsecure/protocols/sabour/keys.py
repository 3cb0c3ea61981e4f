"""What a handshake ends with: an OSCORE context in `hardened`, a key for the response's payload in `paper`."""

from __future__ import annotations

from dataclasses import field

from bt_selfsecure.crypto import CCM_NONCE_BYTES, ccm_open, ccm_seal
from bt_selfsecure.errors import LocalError, PeerError
from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.trace import KeyLog, key_log_line
from bt_selfsecure.sansio.value import value


class NotAuthentic(PeerError):  # noqa: N818 - a verdict about a payload
    """The payload was not sealed under this key."""


@value
class OscoreContext:
    """Holds the input parameters of a security context (RFC 8613 section 3.2), as one end has them.

    Algorithms are the defaults of RFC 8613: AES-CCM-16-64-128 and HKDF SHA-256. There is no ID Context. The client's
    id is drawn with the keys and the server's is empty, so they differ always; two contexts of one server have the same
    client id once in 2^32, and the server then tries both.
    """

    master_secret: bytes = field(repr=False)
    master_salt: bytes
    sender_id: bytes
    recipient_id: bytes


@value
class PayloadKey:
    """Is AES-128-CCM under H(x of ssk). The request is in clear (the paper's Fig. 9), the response's payload is not."""

    key: bytes = field(repr=False)

    def seal(self, payload: bytes, random: Random) -> bytes:
        """Return nonce 13, ciphertext and tag 8. Raises `LocalError` for a payload that CCM can't take."""
        if len(payload) > limits.MAX_PAYLOAD_BYTES:
            raise LocalError(f"a payload has at most {limits.MAX_PAYLOAD_BYTES} bytes, this has {len(payload)}")
        nonce = random(CCM_NONCE_BYTES)
        return nonce + ccm_seal(self.key, nonce, payload)

    def open(self, sealed: bytes) -> bytes:
        """Return the payload. Raises `NotAuthentic`, and nothing else."""
        plain = ccm_open(self.key, sealed[:CCM_NONCE_BYTES], sealed[CCM_NONCE_BYTES:])
        if plain is None:
            raise NotAuthentic("the payload was not sealed under this key")
        return plain


Keys = OscoreContext | PayloadKey


def log_keys(key_log: KeyLog, device_id: bytes, keys: Keys) -> None:
    """Write the line of the key log by which somebody who is meant to can read along."""
    if isinstance(keys, OscoreContext):
        key_log(key_log_line("OSCORE", device_id, keys.master_secret + keys.master_salt))
    else:
        key_log(key_log_line("SABOUR", device_id, keys.key))
