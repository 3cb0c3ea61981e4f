"""The frames by which two ends of a session find together after a crash or with a new K_0.

Resynchronisation, one direction at a time, after an end was restored or has a new K_0 to offer:

    receiver                                     sender
      | <- request (h, n, no call, its keys) ----- |      only where the sender finds it necessary
      | -- call (its keys) ----------------------> |      where the receiver does, or to see if a request is fresh
      | <- request (h, n, that call, its keys) --- |      h: the oldest message it can send again; h + n: the next
      | -- response (r, the newest common key) --> |      r: the next round that it has not seen, h + n at most
      | <- data of round max(r, h), fresh key ---- |

Both mix fresh random numbers into the newest key that they have in common. The receiver goes over, on disk, when a
request names its present call; the sender when the response to its present request comes. Each repeats call or request
until then, and each goes over once only for a call and a request: replayed frames change nothing, and two idle ends
hold the same key and are silent. Every key that a request names is on disk first, so no crash can part the two.

Rounds are counted by their sender, who says how many it can have sent, and believes in no more; a receiver believes of
h no more than it has received, unless the two go over to a new K_0: then the count is the sender's alone. So no peer,
honest or not, leaves a number behind that outlives its key.
"""

from __future__ import annotations

import hmac
from typing import Final

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind
from bt_selfsecure.protocols.haoxiao.keychain import CHECKPOINT_ID_BYTES, Chain
from bt_selfsecure.protocols.haoxiao.record import ReceivingState, SendingState

NO_CALL: Final = bytes(limits.NONCE_BYTES)
"""What a request has in the place of a call's Rand where it answers none."""
_CALL, _CHALLENGE = b"resync call", b"resync challenge"
_REQUEST, _RESPONSE = b"resync request", b"resync response"
_MAC_BYTES: Final = 16
_MAX_KEYS: Final = 5  # two checkpoints, K_i, K_{i-1}, an offer
_REQUEST_FIELDS_BYTES: Final = 8 + limits.NONCE_BYTES
Keys = tuple[bytes, ...]
"""What an end may resume from, the newest first."""


def resync_call(state: ReceivingState, keys: Keys, nonce: bytes, *, challenge: bool) -> Frame:
    """Return what asks the sender for a request; by a challenge (Seq 1) only if it has made one already.
    Message: ids of its keys (8 each), an HMAC under each (16 each)."""
    message = _named_keys(state.chain, keys, _CHALLENGE if challenge else _CALL, nonce, b"")
    return Frame(state.chain.suite.profile, Kind.RESYNC_CALL, seq=int(challenge), rand=nonce, message=message)


def resync_request(state: SendingState, keys: Keys, nonce: bytes, call: bytes, oldest: int, most: int) -> Frame:
    """Return the sender's request. Message: n (2) and h (6), Rand of the call that it answers
    or zeros (16), then as a call."""
    message = _named_keys(state.chain, keys, _REQUEST, nonce, (most - oldest).to_bytes(2) + oldest.to_bytes(6) + call)
    return Frame(state.chain.suite.profile, Kind.RESYNC_REQUEST, rand=nonce, message=message)


def request_fields(frame: Frame) -> tuple[int, int, bytes]:
    """Return h, h + n and the Rand of the call, of an authentic request."""
    oldest = int.from_bytes(frame.message[2:8])
    return oldest, oldest + int.from_bytes(frame.message[:2]), frame.message[8:_REQUEST_FIELDS_BYTES]


def resync_response(chain: Chain, common: bytes, expected: int, nonce: bytes, request_nonce: bytes) -> Frame:
    """Return the receiver's response. Message: the request's Rand (16), the id of the common key (8), r (8)."""
    message = request_nonce + chain.checkpoint_id(common) + expected.to_bytes(8)
    mac = chain.suite.label_mac(common, _RESPONSE, nonce + message)
    return Frame(chain.suite.profile, Kind.RESYNC_RESPONSE, rand=nonce, message=message, mac=mac)


def common_keys(chain: Chain, keys: Keys, frame: Frame) -> list[bytes]:
    """Return those of the keys that an authentic call or request names, in their order: the newest first."""
    label, skip = _REQUEST, _REQUEST_FIELDS_BYTES
    if frame.kind is Kind.RESYNC_CALL:
        label, skip = (_CHALLENGE if frame.seq else _CALL), 0
    count, rest = divmod(len(frame.message) - skip, CHECKPOINT_ID_BYTES + _MAC_BYTES)
    if rest or not 1 <= count <= _MAX_KEYS:
        return []
    ids_end = skip + count * CHECKPOINT_ID_BYTES
    ids, macs = frame.message[skip:ids_end], frame.message[ids_end:]
    named = dict(zip(_pieces(ids, CHECKPOINT_ID_BYTES), _pieces(macs, _MAC_BYTES), strict=True))
    common = [(key, named[name]) for key in keys if (name := chain.checkpoint_id(key)) in named]
    data, suite = frame.rand + frame.message[:ids_end], chain.suite
    authentic = all(hmac.compare_digest(mac, suite.label_mac(key, label, data)) for key, mac in common)
    return [key for key, _ in common] if authentic else []


def authentic_response(chain: Chain, keys: Keys, frame: Frame, request_nonce: bytes) -> tuple[bytes, int] | None:
    """Return the common key and r of an authentic response to this request, or None."""
    if len(frame.message) != 32 or not hmac.compare_digest(frame.message[:16], request_nonce):
        return None
    suite, name = chain.suite, frame.message[16:24]
    key = next((key for key in keys if chain.checkpoint_id(key) == name), None)
    if key is None:
        return None
    if not hmac.compare_digest(suite.label_mac(key, _RESPONSE, frame.rand + frame.message), frame.mac):
        return None
    return key, int.from_bytes(frame.message[24:])


def _named_keys(chain: Chain, keys: Keys, label: bytes, nonce: bytes, fields: bytes) -> bytes:
    """Return ids and HMACs; each covers all ids, so that none can be cut out to have an older key chosen."""
    named = fields + b"".join(chain.checkpoint_id(key) for key in keys)
    return named + b"".join(chain.suite.label_mac(key, label, nonce + named) for key in keys)


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]
