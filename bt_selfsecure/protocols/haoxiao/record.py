"""Keeps what a session must have after a crash: its state, as a versioned record.

The state of a session *is* its record: frozen, replaced as a whole, so that a driver can store it at any moment. Format
(JSON, keys and messages in hexadecimal; version 1, without `begun_with`, `skipped`, `continuity`, is read for ever):

    {"format": "bt-selfsecure session", "version": 2, "profile": "hardened", "role": "initiator",
     "sending":   {"seq", "key", "checkpoint_rounds", "alpha", "checkpoints", "offer", "messages"},
     "receiving": {"seq", "key", "checkpoint_rounds", "alpha", "checkpoints", "offer", "previous", "epoch",
                   "begun_with", "skipped"},
     "continuity": [in force, offered]}
"""

from __future__ import annotations

import enum
import json
from dataclasses import field
from typing import Any, Final

from bt_selfsecure.errors import BtSelfSecureError, UnreadableError
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.suites import SUITES
from bt_selfsecure.sansio.value import value

FORMAT: Final = "bt-selfsecure session"
VERSION: Final = 2
READABLE: Final = (1, 2)


class RecordError(BtSelfSecureError):
    """The stored state can't be used: its text says why. The session must be established anew."""


class Role(enum.Enum):
    """Says who this end was in the establishment; that decides which chain it sends on."""

    INITIATOR = "initiator"
    RESPONDER = "responder"

    @property
    def peer(self) -> Role:
        return Role.RESPONDER if self is Role.INITIATOR else Role.INITIATOR

    @property
    def label(self) -> bytes:
        """Return the label of the chain on which this role sends (row 13)."""
        return b"initiator to responder" if self is Role.INITIATOR else b"responder to initiator"


@value
class SendingState:
    """Keeps what the sender of one direction resumes from: chain, messages, and the key that it offers."""

    chain: Chain
    messages: tuple[bytes, ...] = field(default=(), repr=False)
    """The message of this round, if one is under way, and those that follow it (what the peer has forgotten)."""
    offer: bytes = field(default=b"", repr=False)
    """First key of this direction from a new K_0 that the peer was not seen to have."""

    @property
    def newest(self) -> tuple[bytes, ...]:
        """Return the keys this end resumes from, the newest first, where neither end has forgotten anything."""
        return _distinct(self.offer, self.chain.key)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Return the same and the checkpoints: where an end may have forgotten rounds."""
        return _distinct(*self.newest, *reversed(self.chain.checkpoints))


@value
class ReceivingState:
    """Keeps what the receiver of one direction resumes from: chain, previous key, and the key that it offers."""

    chain: Chain
    previous: bytes = field(default=b"", repr=False)
    """K_{i-1}, or K_i before a new K_0: the sender still holds it where our last answer was lost."""
    epoch: int = 0
    """Counts resynchronisations."""
    offer: bytes = field(default=b"", repr=False)
    """First key of this direction from a new K_0 that the peer was not seen to have."""
    begun_with: bytes = field(default=b"", repr=False)
    """First key from a new K_0 that this end went over to, until something comes under it: the sender still offers it
    where our answer was lost."""
    skipped: int = 0
    """Rounds before this one that the sender said it can't send again and that never came, until something comes."""

    @property
    def newest(self) -> tuple[bytes, ...]:
        """Return the keys this end resumes from, the newest first, where neither end has forgotten anything."""
        return _distinct(self.offer, self.chain.key, self.begun_with, self.previous)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Return the same and the checkpoints: where an end may have forgotten rounds."""
        return _distinct(*self.newest, *reversed(self.chain.checkpoints))


def _distinct(*keys: bytes) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(key for key in keys if key))


@value
class SessionRecord:
    """Holds all that a session keeps across a crash. Its repr shows no key; `to_json` does: let only its owner read
    that."""

    profile: Profile
    role: Role
    sending: SendingState
    receiving: ReceivingState
    continuity: tuple[bytes, bytes] = field(default=(b"", b""), repr=False)
    """Continuity key of the session in force, and of a new K_0 that the peer was not seen to have; or empty."""

    @property
    def continuity_keys(self) -> tuple[bytes, ...]:
        """Return what the next establishment with this peer may mix in, the one to be preferred first; 32 bytes
        each."""
        return _distinct(*reversed(self.continuity))

    def to_json(self) -> str:
        """Return the newest version of the format above, one line. A driver asks for it at each round, so it is written
        as text at once: what is in it is numbers, names of ours, and hexadecimal."""
        sending, receiving = self.sending, self.receiving
        in_force, offered = self.continuity
        return (
            f'{{"format":"{FORMAT}","version":{VERSION},"profile":"{self.profile.label}","role":"{self.role.value}",'
            f'"sending":{{{_chain_to_json(sending.chain)},"offer":"{sending.offer.hex()}",'
            f'"messages":{_hex_list(sending.messages)}}},'
            f'"receiving":{{{_chain_to_json(receiving.chain)},"offer":"{receiving.offer.hex()}",'
            f'"previous":"{receiving.previous.hex()}","epoch":{receiving.epoch},'
            f'"begun_with":"{receiving.begun_with.hex()}","skipped":{receiving.skipped}}},'
            f'"continuity":["{in_force.hex()}","{offered.hex()}"]}}'
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> SessionRecord:
        """Return the record that the text is. Raises `RecordError`, which shows nothing of the text, where that is
        none, or one of a version that this program does not know."""
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or data.get("format") != FORMAT:
                raise RecordError(f"this is not a record of a session: 'format' must be {FORMAT!r}")
            version = data.get("version")
            if version not in READABLE or isinstance(version, bool):
                shown = version if isinstance(version, int) and 0 <= version < 1000 else "?"
                raise RecordError(
                    f"the record has version {shown}; this program reads versions up to {VERSION}: "
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
        if data["version"] == 1:
            data |= {"continuity": ["", ""]}
            receiving |= {"begun_with": receiving["checkpoints"][0] if receiving["alpha"] == 0 else "", "skipped": 0}
        in_force, offered = map(_key_or_none, data["continuity"])
        if _number(receiving["skipped"]) > _number(receiving["seq"]):
            raise UnreadableError("more rounds were skipped than there are")
        return cls(
            profile,
            Role(data["role"]),
            SendingState(_chain_from_dict(profile, sending), _messages(sending), _key_or_none(sending["offer"])),
            ReceivingState(
                _chain_from_dict(profile, receiving),
                _key_or_none(receiving["previous"]),
                _number(receiving["epoch"]),
                _key_or_none(receiving["offer"]),
                _key_or_none(receiving["begun_with"]),
                receiving["skipped"],
            ),
            (in_force, offered),
        )


def _chain_to_json(chain: Chain) -> str:
    """Return the members of its object."""
    return (
        f'"seq":{chain.seq},"key":"{chain.key.hex()}","checkpoint_rounds":{chain.checkpoint_rounds},'
        f'"alpha":{chain.alpha},"checkpoints":{_hex_list(chain.checkpoints)}'
    )


def _hex_list(values: tuple[bytes, ...]) -> str:
    return "[" + ",".join([f'"{value.hex()}"' for value in values]) + "]"


def _chain_from_dict(profile: Profile, data: dict[str, Any]) -> Chain:
    checkpoints = tuple(_key(text) for text in data["checkpoints"])
    rounds, alpha = _number(data["checkpoint_rounds"]), _number(data["alpha"])
    if not 1 <= len(checkpoints) <= 2 or not alpha < rounds:
        raise UnreadableError("there must be one or two checkpoints, and less than W rounds since the newest")
    return Chain(SUITES[profile], _key(data["key"]), _number(data["seq"]), rounds, alpha, checkpoints)


def _messages(data: dict[str, Any]) -> tuple[bytes, ...]:
    messages = tuple(bytes.fromhex(text) for text in data["messages"])
    longest = max(map(len, messages), default=0)
    if longest > limits.MAX_MESSAGE_BYTES or len(messages) > 2 * data["checkpoint_rounds"] + 1:
        raise UnreadableError("there are more or longer messages than a sender takes")
    return messages


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != limits.KEY_BYTES:
        raise UnreadableError(f"a key has {limits.KEY_BYTES} bytes")
    return key


def _key_or_none(text: str) -> bytes:
    return _key(text) if text != "" else b""


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limits.MAX_ROUNDS:
        raise UnreadableError("a number is missing or out of range")
    return value
