"""Who may use REST: tokens with roles, of which the database has hashes alone. A partner's is bound to the key of
its certificate by RFC 9449 (DPoP), so that a stolen one is worth nothing."""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import json
import re
import secrets
from collections import OrderedDict
from typing import Any, Final

from bt_selfsecure.curves import ecdsa_verify
from bt_selfsecure.errors import BtSelfSecureError, UnreadableError, UsageError
from bt_selfsecure.iot.cloud.sql import CloudDatabase
from bt_selfsecure.node.errors import ConflictError
from bt_selfsecure.protocols.iotcrypto.certificate import Certificate, Role, SecretKeys, SignedCertificate
from bt_selfsecure.sansio.value import value

NAME_PATTERN: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
NAME_SAID: Final = "1 to 64 letters (A to Z, a to z), digits, dots, hyphens or underscores"
PREFIX: Final = "btss_"
DAY_MS: Final = 86_400_000
PROOF_S: Final = 60
"""Seconds that a proof's time may be away from ours."""
MOST_PROOFS: Final = 65_536
MOST_PROOF_BYTES: Final = 4096


class TokenRole(enum.IntEnum):
    """Says what a token may; each may what those below it may."""

    PARTNER = 0
    """Read what concerns the devices that its company has signed."""
    VIEWER = 1
    """Read all."""
    OPERATOR = 2
    """Ask and command devices, and say that alerts were seen."""
    OWNER = 3
    """Bring trust lists, and make tokens."""


@value
class Token:
    """Is one token, without its secret."""

    name: str
    role: TokenRole
    expires_ms: int
    partner: Certificate | None = None
    """Whose key must prove each request."""


class NoTokenError(BtSelfSecureError):
    """There is no token, or none that counts."""


def make_token(
    base: CloudDatabase, name: str, role: TokenRole, days: int, now_ms: int, partner: bytes | None = None
) -> str:
    """Return a new token, whose text nobody can read again. Raises `UsageError` and `SqlError`."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"a token's name must be {NAME_SAID}")
    if (role is TokenRole.PARTNER) != (partner is not None):
        raise UsageError("a partner's token, and no other, is bound to the certificate of its company")
    if partner is not None and SignedCertificate.decode(partner).certificate.role is not Role.PARTY:
        raise UsageError("a partner's certificate is that of a company")
    made = PREFIX + secrets.token_urlsafe(32)
    rows = base.execute(
        "INSERT INTO token (name, hash, role, partner, created_ms, expires_ms) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (name) DO NOTHING RETURNING name",
        (name, _hash(made), role.name.lower(), partner, now_ms, now_ms + days * DAY_MS),
    )
    if not rows:
        raise ConflictError(f"there is a token {name!r} already: revoke it, or choose another name")
    return made


def find_token(base: CloudDatabase, text: str, now_ms: int) -> Token:
    """Return the token of this text. Raises `NoTokenError` and `SqlError`."""
    rows = base.execute("SELECT name, role, expires_ms, partner FROM token WHERE hash = ?", (_hash(text),))
    if not rows or rows[0][2] <= now_ms:
        raise NoTokenError("the token is unknown, was revoked or has expired: bt-selfsecure cloud token add makes one")
    name, role, expires, partner = rows[0]
    return Token(
        name, TokenRole[role.upper()], expires, SignedCertificate.decode(partner).certificate if partner else None
    )


def list_tokens(base: CloudDatabase) -> list[tuple[str, str, int]]:
    """Return name, role and expiry of each, in milliseconds since 1970."""
    return [(*row,) for row in base.execute("SELECT name, role, expires_ms FROM token ORDER BY name")]


def revoke_token(base: CloudDatabase, name: str) -> bool:
    """Let a token count no more; return whether there was one of this name."""
    return bool(base.execute("DELETE FROM token WHERE name = ? RETURNING name", (name,)))


def _hash(text: str) -> bytes:
    return hashlib.sha256(_bytes(text)).digest()


def _bytes(text: str) -> bytes:
    """Return what a header or JSON had of others, which need not be UTF-8."""
    return text.encode(errors="surrogatepass")


# --- proofs of a partner's (RFC 9449) ---------------------------------------------------------------------------------


def make_proof(keys: SecretKeys, method: str, url: str, token: str, now_s: int) -> str:
    """Return the header `DPoP` of one request, by the partner's keys."""
    from bt_selfsecure.curves import ecdsa_sign, p256_public

    head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": _jwk(p256_public(keys.ecdsa))}
    body = {"jti": secrets.token_urlsafe(16), "htm": method, "htu": url, "iat": now_s, "ath": _packed(_hash(token))}
    signed = ".".join(_packed(json.dumps(each).encode()) for each in (head, body))
    return f"{signed}.{_packed(ecdsa_sign(keys.ecdsa, hashlib.sha256(signed.encode()).digest()))}"


class ProofReader:
    """Takes each proof once."""

    def __init__(self) -> None:
        self._used: Final[OrderedDict[str, float]] = OrderedDict()

    def check(self, proof: str, partner: Certificate, method: str, url: str, token: str, now_s: float) -> None:
        """Raises `NoTokenError` where this is no proof of the partner's for this request, now."""
        try:
            head, body, identity = self._read(proof, partner)
        except (ValueError, TypeError, RecursionError):
            raise NoTokenError("the header DPoP has no proof (RFC 9449) by the token's certificate") from None
        if head.get("typ") != "dpop+jwt" or head.get("alg") != "ES256":
            raise NoTokenError("the proof's type must be dpop+jwt, and its algorithm ES256")
        wanted = {"htm": method, "htu": url, "ath": _packed(_hash(token))}
        for name, expected in wanted.items():
            if not hmac.compare_digest(_bytes(str(body.get(name))), expected.encode()):
                raise NoTokenError(f"the proof is for another request: {name} must be {expected}")
        issued = body.get("iat")
        if not isinstance(issued, (int, float)) or not now_s - PROOF_S <= issued <= now_s + PROOF_S:
            raise NoTokenError(f"the proof is older or newer than {PROOF_S} s: set the clock")
        while self._used and (next(iter(self._used.values())) < now_s - 2 * PROOF_S or len(self._used) >= MOST_PROOFS):
            self._used.popitem(last=False)
        if identity in self._used:
            raise NoTokenError("the proof was used before: make one for each request")
        self._used[identity] = now_s

    @staticmethod
    def _read(proof: str, partner: Certificate) -> tuple[dict[str, Any], dict[str, Any], str]:
        if len(proof) > MOST_PROOF_BYTES:
            raise UnreadableError("no proof")
        signed, _, signature = proof.rpartition(".")
        head, body = (json.loads(_unpacked(part)) for part in signed.split("."))
        digest = hashlib.sha256(signed.encode()).digest()
        right = isinstance(head, dict) and isinstance(body, dict) and head.get("jwk") == _jwk(partner.ecdsa_key)
        if not right or not ecdsa_verify(partner.ecdsa_key, _unpacked(signature), digest):
            raise UnreadableError("no proof")
        return head, body, f"{partner.id.hex()} {str(body.get('jti'))[:64]}"


def _jwk(point: bytes) -> dict[str, str]:
    return {"kty": "EC", "crv": "P-256", "x": _packed(point[:32]), "y": _packed(point[32:])}


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unpacked(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
