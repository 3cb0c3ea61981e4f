"""What a session keeps across a crash: its state as a versioned record, and the frames by which two ends find together.

The state of a session *is* its record: frozen, replaced as a whole, so that a driver can store it at any moment. Format
(JSON, keys and messages in hexadecimal; version 1 is read for ever):

    {"format": "bt-selfsecure session", "version": 1, "profile": "hardened", "role": "initiator",
     "sending":   {"seq", "key", "checkpoint_rounds", "alpha", "checkpoints", "offer", "messages"},
     "receiving": {"seq", "key", "checkpoint_rounds", "alpha", "checkpoints", "offer", "previous", "epoch"}}

Resynchronisation, one direction at a time, after an end was restored or has a new K_0 to offer:

    receiver                                     sender
      | <- request (h, no call, its keys) -------- |      only where the sender finds it necessary
      | -- call (its keys) ----------------------> |      where the receiver does, or to see if a request is fresh
      | <- request (h, that call, its keys) ------ |      h: the oldest message it can send again
      | -- response (r, the newest common key) --> |      r: the next round that the receiver has not seen
      | <- data of round max(r, h), fresh key ---- |

Both mix fresh random numbers into the newest key that they have in common. The receiver goes over, on disk, when a
request names its present call; the sender when the response to its present request comes. Each repeats call or request
until then, and each goes over once only for a call and a request: replayed frames change nothing, and two idle ends
hold the same key and are silent. Every key that a request names is on disk first, so no crash can part the two.
"""

from __future__ import annotations

import enum
import hmac
import json
from dataclasses import dataclass, field
from typing import Any, Final

from bt_selfsecure.core import limits
from bt_selfsecure.core.frames import Frame, Kind, Profile
from bt_selfsecure.core.keychain import CHECKPOINT_ID_BYTES, Chain
from bt_selfsecure.core.suites import SUITES
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
    """What a crash may cost. In both, a message that was acknowledged has been handed to the peer's application."""

    EVERY_MESSAGE = "every-message"
    """Each message is on disk before it leaves and before it is acknowledged: exactly once, also across power loss."""
    EVERY_W = "every-W"
    """The paper's: on disk every W rounds. Power loss of a receiver may show its application up to W messages again,
    under the same Seq. A message that was not acknowledged yet may be lost with the power of its sender, or with its
    process before the record was written. What a receiver has forgotten its sender repeats from memory: only where both
    crash are up to W rounds lost to both, and may a Seq come again with another message."""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What one end is configured with; W must be the same at both."""

    durability: Durability = Durability.EVERY_MESSAGE
    checkpoint_rounds: int = 64
    """W: rounds from one checkpoint to the next."""
    omega: int = 8
    """Omega: retransmissions of one message before the peer is called unreachable; at most 15."""
    timeout: float = 0.2
    """Seconds until the first retransmission of data, request or call; doubled at each further one."""
    max_timeout: float = 10.0
    """Seconds between retransmissions at most; an unreachable peer is tried this often."""

    def __post_init__(self) -> None:
        """Raises `UsageError` where a value is out of range."""
        if not 1 <= self.omega <= limits.MAX_RETRAN:
            raise UsageError(f"omega must be 1 to {limits.MAX_RETRAN}")
        if self.checkpoint_rounds < 1:
            raise UsageError("checkpoint_rounds (W) must be at least 1")
        if not 0 < self.timeout <= self.max_timeout:
            raise UsageError("timeout must be above 0 and at most max_timeout")

    def back_off(self, waits: int) -> float:
        """Seconds to wait after this many time-outs in a row."""
        return min(self.timeout * (1 << min(waits, 32)), self.max_timeout)


@dataclass(frozen=True, slots=True)
class SendingState:
    """The sender's end of one direction."""

    chain: Chain
    messages: tuple[bytes, ...] = field(default=(), repr=False)
    """The message of this round, if one is under way, and those that follow it (what the peer has forgotten)."""
    offer: bytes = field(default=b"", repr=False)
    """First key of this direction from a new K_0 that the peer was not seen to have."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """What this end can resume from, the newest first."""
        return _distinct(self.offer, self.chain.key, *reversed(self.chain.checkpoints))


@dataclass(frozen=True, slots=True)
class ReceivingState:
    """The receiver's end of one direction."""

    chain: Chain
    previous: bytes = field(default=b"", repr=False)
    """K_{i-1}, or K_i before a new K_0: the sender still holds it where our last answer was lost."""
    epoch: int = 0
    """Counts resynchronisations."""
    offer: bytes = field(default=b"", repr=False)
    """First key of this direction from a new K_0 that the peer was not seen to have."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """What this end can resume from, the newest first."""
        return _distinct(self.offer, self.chain.key, self.previous, *reversed(self.chain.checkpoints))


def _distinct(*keys: bytes) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(key for key in keys if key))


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
            | {"offer": sending.offer.hex(), "messages": [message.hex() for message in sending.messages]},
            "receiving": _chain_to_dict(receiving.chain)
            | {"offer": receiving.offer.hex(), "previous": receiving.previous.hex(), "epoch": receiving.epoch},
        }
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> SessionRecord:
        """Raises `RecordError`, which shows nothing of the text, where that is not such a record, or of a version that
        this program does not know."""
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or data.get("format") != FORMAT:
                raise RecordError(f"this is not a record of a session: 'format' must be {FORMAT!r}")
            version = data.get("version")
            if version != VERSION:
                shown = version if isinstance(version, int) and 0 <= version < 1000 else "?"
                raise RecordError(
                    f"the record has version {shown}; this program reads version {VERSION}: "
                    "upgrade it, or establish the session anew"
                )
            return cls._from_dict(data)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            what = type(error).__name__  # its text can show what is in the record
            raise RecordError(f"the record of the session is damaged ({what}): establish the session anew") from None

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> SessionRecord:
        profile = Profile[data["profile"].upper()]
        sending, receiving = data["sending"], data["receiving"]
        return cls(
            profile,
            Role(data["role"]),
            SendingState(_chain_from_dict(profile, sending), _messages(sending), _key_or_none(sending["offer"])),
            ReceivingState(
                _chain_from_dict(profile, receiving),
                _key_or_none(receiving["previous"]),
                _number(receiving["epoch"]),
                _key_or_none(receiving["offer"]),
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
    rounds, alpha = _number(data["checkpoint_rounds"]), _number(data["alpha"])
    if not 1 <= len(checkpoints) <= 2 or not alpha < rounds:
        raise ValueError("there must be one or two checkpoints, and less than W rounds since the newest")
    return Chain(SUITES[profile], _key(data["key"]), _number(data["seq"]), rounds, alpha, checkpoints)


def _messages(data: dict[str, Any]) -> tuple[bytes, ...]:
    messages = tuple(bytes.fromhex(text) for text in data["messages"])
    longest = max(map(len, messages), default=0)
    if longest > limits.MAX_MESSAGE_BYTES or len(messages) > 2 * data["checkpoint_rounds"] + 1:
        raise ValueError("there are more or longer messages than a sender takes")
    return messages


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != limits.KEY_BYTES:
        raise ValueError(f"a key has {limits.KEY_BYTES} bytes")
    return key


def _key_or_none(text: str) -> bytes:
    return _key(text) if text != "" else b""


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limits.MAX_ROUNDS:
        raise ValueError("a number is missing or out of range")
    return value


# --- the frames of a resynchronisation --------------------------------------------------------------------------------

NO_CALL: Final = bytes(limits.NONCE_BYTES)
"""What a request has in the place of a call's Rand where it answers none."""
_CALL, _CHALLENGE = b"resync call", b"resync challenge"
_REQUEST, _RESPONSE = b"resync request", b"resync response"
_MAC_BYTES: Final = 16
_MAX_KEYS: Final = 5  # two checkpoints, K_i, K_{i-1}, an offer
_REQUEST_FIELDS: Final = 8 + limits.NONCE_BYTES


def resync_call(state: ReceivingState, nonce: bytes, *, challenge: bool) -> Frame:
    """The receiver asks the sender for a request; by a challenge (Seq 1) only if the sender has made one already.
    Message: ids of its keys (8 each), an HMAC under each (16 each)."""
    message = _named_keys(state, _CHALLENGE if challenge else _CALL, nonce, b"")
    return Frame(state.chain.suite.profile, Kind.RESYNC_CALL, seq=int(challenge), rand=nonce, message=message)


def resync_request(state: SendingState, nonce: bytes, call: bytes, oldest: int) -> Frame:
    """The sender's request. Message: h (8), Rand of the call that it answers or zeros (16), then as in a call."""
    message = _named_keys(state, _REQUEST, nonce, oldest.to_bytes(8) + call)
    return Frame(state.chain.suite.profile, Kind.RESYNC_REQUEST, rand=nonce, message=message)


def request_fields(frame: Frame) -> tuple[int, bytes]:
    """h and the Rand of the call, of an authentic request."""
    return min(int.from_bytes(frame.message[:8]), limits.MAX_ROUNDS), frame.message[8:_REQUEST_FIELDS]


def resync_response(chain: Chain, common: bytes, nonce: bytes, request_nonce: bytes) -> Frame:
    """The receiver's response. Message: the request's Rand (16), the id of the common key (8), r (8)."""
    message = request_nonce + chain.checkpoint_id(common) + chain.seq.to_bytes(8)
    mac = chain.suite.label_mac(common, _RESPONSE, nonce + message)
    return Frame(chain.suite.profile, Kind.RESYNC_RESPONSE, rand=nonce, message=message, mac=mac)


def common_keys(state: SendingState | ReceivingState, frame: Frame) -> list[bytes]:
    """The own keys that an authentic call or request names, the newest first."""
    label, skip = _REQUEST, _REQUEST_FIELDS
    if frame.kind is Kind.RESYNC_CALL:
        label, skip = (_CHALLENGE if frame.seq else _CALL), 0
    count, rest = divmod(len(frame.message) - skip, CHECKPOINT_ID_BYTES + _MAC_BYTES)
    if rest or not 1 <= count <= _MAX_KEYS:
        return []
    ids_end = skip + count * CHECKPOINT_ID_BYTES
    ids, macs = frame.message[skip:ids_end], frame.message[ids_end:]
    named = dict(zip(_pieces(ids, CHECKPOINT_ID_BYTES), _pieces(macs, _MAC_BYTES), strict=True))
    common = [(key, named[name]) for key in state.keys if (name := state.chain.checkpoint_id(key)) in named]
    data, suite = frame.rand + frame.message[:ids_end], state.chain.suite
    authentic = all(hmac.compare_digest(mac, suite.label_mac(key, label, data)) for key, mac in common)
    return [key for key, _ in common] if authentic else []


def authentic_response(state: SendingState, frame: Frame, request_nonce: bytes) -> tuple[bytes, int] | None:
    """The common key and r of an authentic response to this request, or None."""
    if len(frame.message) != 32 or not hmac.compare_digest(frame.message[:16], request_nonce):
        return None
    suite, name = state.chain.suite, frame.message[16:24]
    key = next((key for key in state.keys if state.chain.checkpoint_id(key) == name), None)
    if key is None:
        return None
    if not hmac.compare_digest(suite.label_mac(key, _RESPONSE, frame.rand + frame.message), frame.mac):
        return None
    seq = int.from_bytes(frame.message[24:])
    return (key, seq) if seq <= limits.MAX_ROUNDS else None


def _named_keys(state: SendingState | ReceivingState, label: bytes, nonce: bytes, fields: bytes) -> bytes:
    """Each HMAC covers all ids, so that none can be cut out to have an older key chosen."""
    named = fields + b"".join(state.chain.checkpoint_id(key) for key in state.keys)
    return named + b"".join(state.chain.suite.label_mac(key, label, nonce + named) for key in state.keys)


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]
