"""What a session keeps across a crash: its state as a versioned record, and the frames by which two ends find together.

The state of a session *is* its record: frozen, replaced as a whole, so that a driver can store it at any moment. Format
(JSON, keys in hexadecimal; version 1 is read for ever):

    {"format": "bt-selfsecure session", "version": 1, "profile": "hardened", "role": "initiator",
     "sending":   {"seq", "key", "checkpoint_rounds", "alpha", "checkpoints", "message", "attempts"},
     "receiving": {"seq", "key", "checkpoint_rounds", "alpha", "checkpoints", "previous", "ack", "ack_retran",
                   "delivered", "epoch"}}

Resynchronisation, one direction at a time, after an end was restored or when both no longer hold the same K_i:

    receiver                                     sender
      | -- call (its checkpoints) ---------------> |      only where the receiver finds it necessary
      | <- request (h, its checkpoints) ---------- |      h: the oldest message it can send again
      | -- response (r, the newest common one) --> |      r: the next round that the receiver has not seen
      | <- data of round max(r, h), fresh key ---- |

Both mix fresh random numbers into the newest common checkpoint. The sender goes over at the response, the receiver
at the first authentic data under the new key; until then it keeps the old one, so replayed frames change nothing.
"""

from __future__ import annotations

import enum
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from bt_selfsecure.core import limits
from bt_selfsecure.core.frames import Frame, Kind, Profile
from bt_selfsecure.core.keychain import CHECKPOINT_ID_BYTES, Chain
from bt_selfsecure.core.suites import SUITES, Attempt, Header
from bt_selfsecure.errors import BtSelfSecureError, UsageError

FORMAT: Final = "bt-selfsecure session"
VERSION: Final = 1


class RecordError(BtSelfSecureError):
    """The stored state can't be used: its text says why. The session must be established anew."""


class Role(enum.Enum):
    """Who this end was in the establishment; decides which chain it sends on."""

    INITIATOR = "initiator"
    RESPONDER = "responder"

    @property
    def peer(self) -> Role:
        return Role.RESPONDER if self is Role.INITIATOR else Role.INITIATOR

    @property
    def label(self) -> bytes:
        """Label of the chain on which this role sends (row 13)."""
        return b"initiator to responder" if self is Role.INITIATOR else b"responder to initiator"


class Durability(enum.Enum):
    """What a crash may cost."""

    EVERY_MESSAGE = "every-message"
    """Each message is on disk before it is acknowledged: exactly once, also across power loss."""
    EVERY_W = "every-W"
    """The paper's: on disk every W rounds. After power loss the application may see up to 2 W messages again, and a
    message that was not acknowledged yet may be lost with the power of its sender."""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What one end is configured with; W must be the same at both."""

    durability: Durability = Durability.EVERY_MESSAGE
    checkpoint_rounds: int = 64
    """W: rounds from one checkpoint to the next."""
    omega: int = 8
    """Omega: retransmissions of one message before the peer is called unreachable; at most 15."""
    timeout: float = 0.2
    """Seconds until the first retransmission; doubled at each further one."""
    max_timeout: float = 10.0
    """Seconds between retransmissions at most; an unreachable peer is tried this often."""
    resync_interval: float = 1.0
    """Seconds: a receiver calls for resynchronisation at most this often, a sender heeds a call at most this often."""

    def __post_init__(self) -> None:
        """Raises `UsageError` where a value is out of range."""
        if not 1 <= self.omega <= limits.MAX_RETRAN:
            raise UsageError(f"omega must be 1 to {limits.MAX_RETRAN}")
        if self.checkpoint_rounds < 1:
            raise UsageError("checkpoint_rounds (W) must be at least 1")
        if not 0 < self.timeout <= self.max_timeout:
            raise UsageError("timeout must be above 0 and at most max_timeout")


@dataclass(frozen=True, slots=True)
class SendingState:
    """The sender's end of one direction."""

    chain: Chain
    message: bytes | None = field(default=None, repr=False)
    """The message of this round, if one is under way."""
    attempts: tuple[Attempt, ...] = ()
    """Every attempt that may have left: the acknowledgement of any of them may come (row 10)."""


@dataclass(frozen=True, slots=True)
class ReceivingState:
    """The receiver's end of one direction."""

    chain: Chain
    previous: Chain | None = None
    """The round before, to know a retransmission of the message that was accepted last."""
    ack: bytes = field(default=b"", repr=False)
    """Message field of the acknowledgement of the attempt that was accepted (row 10)."""
    ack_retran: int = 0
    delivered: int = 0
    """The application has every message before this number."""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """All that a session keeps. Its repr shows no key; `to_json` does, so store it where only the owner reads."""

    profile: Profile
    role: Role
    sending: SendingState
    receiving: ReceivingState

    def to_json(self) -> str:
        """Version 1 of the format above, one line."""
        sending, receiving = self.sending, self.receiving
        record = {
            "format": FORMAT,
            "version": VERSION,
            "profile": self.profile.label,
            "role": self.role.value,
            "sending": _chain_to_dict(sending.chain)
            | {
                "message": None if sending.message is None else sending.message.hex(),
                "attempts": [
                    {"retran": a.header.retran, "alpha": a.header.alpha, "rand": a.rand.hex(), "ack": a.ack.hex()}
                    for a in sending.attempts
                ],
            },
            "receiving": _chain_to_dict(receiving.chain)
            | {
                "previous": None if receiving.previous is None else _chain_to_dict(receiving.previous),
                "ack": receiving.ack.hex(),
                "ack_retran": receiving.ack_retran,
                "delivered": receiving.delivered,
                "epoch": receiving.epoch,
            },
        }
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> SessionRecord:
        """Raises `RecordError` where the text is not such a record, or of a version that this program does not know."""
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or data.get("format") != FORMAT:
                raise RecordError(f"this is not a record of a session: 'format' must be {FORMAT!r}")
            if data.get("version") != VERSION:
                raise RecordError(
                    f"the record has version {data.get('version')!r}; this program reads version {VERSION}: "
                    "upgrade it, or establish the session anew"
                )
            return cls._from_dict(data)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise RecordError(f"the record of the session is damaged ({error!r}): establish the session anew") from None

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> SessionRecord:
        profile = Profile[data["profile"].upper()]
        sending, receiving = data["sending"], data["receiving"]
        chain = _chain_from_dict(profile, sending)
        message = None if sending["message"] is None else bytes.fromhex(sending["message"])
        attempts = tuple(
            Attempt(
                Header(chain.seq, _number(a["retran"]), _number(a["alpha"])),
                bytes.fromhex(a["rand"]),
                bytes.fromhex(a["ack"]),
            )
            for a in sending["attempts"]
        )
        previous = None if receiving["previous"] is None else _chain_from_dict(profile, receiving["previous"])
        return cls(
            profile,
            Role(data["role"]),
            SendingState(chain, message, attempts),
            ReceivingState(
                _chain_from_dict(profile, receiving),
                previous,
                bytes.fromhex(receiving["ack"]),
                _number(receiving["ack_retran"]),
                _number(receiving["delivered"]),
                _number(receiving["epoch"]),
            ),
        )


def _chain_to_dict(chain: Chain) -> dict[str, Any]:
    return {
        "seq": chain.seq,
        "key": chain.key.hex(),
        "checkpoint_rounds": chain.checkpoint_rounds,
        "alpha": chain.alpha,
        "checkpoints": [key.hex() for key in chain.checkpoints],
    }


def _chain_from_dict(profile: Profile, data: dict[str, Any]) -> Chain:
    checkpoints = tuple(_key(text) for text in data["checkpoints"])
    if not 1 <= len(checkpoints) <= 2:
        raise ValueError("there must be one or two checkpoints")
    return Chain(
        SUITES[profile],
        _key(data["key"]),
        _number(data["seq"]),
        _number(data["checkpoint_rounds"]),
        _number(data["alpha"]),
        checkpoints,
    )


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != limits.KEY_BYTES:
        raise ValueError(f"a key has {limits.KEY_BYTES} bytes")
    return key


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limits.MAX_ROUNDS:
        raise ValueError(f"{value!r} is not a number of this field")
    return value


# --- the frames of a resynchronisation --------------------------------------------------------------------------------

_ENTRY_BYTES: Final = CHECKPOINT_ID_BYTES + 16


def resync_call(chain: Chain, nonce: bytes) -> Frame:
    """The receiver asks the sender for a request. Message: for each checkpoint its id (8) and an HMAC (16)."""
    return Frame(chain.suite.profile, Kind.RESYNC_CALL, rand=nonce, message=_entries(chain, b"resync call", nonce, b""))


def resync_request(chain: Chain, nonce: bytes, oldest: int) -> Frame:
    """The sender's request. Message: h (8), then for each checkpoint its id (8) and an HMAC (16)."""
    fields = oldest.to_bytes(8)
    message = fields + _entries(chain, b"resync request", nonce, fields)
    return Frame(chain.suite.profile, Kind.RESYNC_REQUEST, rand=nonce, message=message)


def resync_response(chain: Chain, checkpoint: bytes, nonce: bytes, request_nonce: bytes, expected: int) -> Frame:
    """The receiver's response. Message: the request's Rand (16), the id of the common checkpoint (8), r (8)."""
    message = request_nonce + chain.checkpoint_id(checkpoint) + expected.to_bytes(8)
    mac = chain.suite.label_mac(checkpoint, b"resync response", nonce + message)
    return Frame(chain.suite.profile, Kind.RESYNC_RESPONSE, rand=nonce, message=message, mac=mac)


def common_checkpoint(chain: Chain, frame: Frame) -> bytes | None:
    """The newest own checkpoint that an authentic call or request names, or None."""
    label, skip = (b"resync call", 0) if frame.kind is Kind.RESYNC_CALL else (b"resync request", 8)
    fields = frame.message[:skip]
    named = dict(_split_entries(frame.message[skip:]))
    for key in reversed(chain.checkpoints):
        mac = named.get(chain.checkpoint_id(key))
        if mac is not None and hmac.compare_digest(mac, chain.suite.label_mac(key, label, frame.rand + fields)):
            return key
    return None


def authentic_response(chain: Chain, frame: Frame, request_nonce: bytes) -> tuple[bytes, int] | None:
    """The common checkpoint and r of an authentic response to this request, or None."""
    nonce, name, expected = frame.message[:16], frame.message[16:24], frame.message[24:]
    key = chain.checkpoint_named(name)
    if len(frame.message) != 32 or key is None or not hmac.compare_digest(nonce, request_nonce):
        return None
    if not hmac.compare_digest(chain.suite.label_mac(key, b"resync response", frame.rand + frame.message), frame.mac):
        return None
    seq = int.from_bytes(expected)
    return (key, seq) if seq <= limits.MAX_ROUNDS else None


def _entries(chain: Chain, label: bytes, nonce: bytes, fields: bytes) -> bytes:
    return b"".join(
        chain.checkpoint_id(key) + chain.suite.label_mac(key, label, nonce + fields) for key in chain.checkpoints
    )


def _split_entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    for start in range(0, min(len(data), 2 * _ENTRY_BYTES), _ENTRY_BYTES):
        entry = data[start : start + _ENTRY_BYTES]
        yield entry[:CHECKPOINT_ID_BYTES], entry[CHECKPOINT_ID_BYTES:]
