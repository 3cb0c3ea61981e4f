"""Somebody who has a key of a session, and speaks: a thief of K_i or of an old checkpoint, or a false first peer.

What she says of the rounds is hers to choose; every frame is authentic.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, decode, encode
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.suites import Suite
from bt_selfsecure.sansio.context import Random


class SpeakingThief:
    """Holds one key of one direction, and takes the place of either of its ends."""

    def __init__(self, suite: Suite, key: bytes, random: Random) -> None:
        self.key: Final = key
        self._suite: Final = suite
        self._id: Final = Chain(suite, key, 0, 1, 0, (key,)).checkpoint_id(key)
        self._random: Final = random

    def call(self) -> bytes:
        """Ask the sender for a request, in the receiver's place."""
        return self._naming(Kind.RESYNC_CALL, b"resync call", b"")

    def request(self, call: bytes, seq: int, more: int = 0) -> bytes:
        """Say in the sender's place that round `seq` is the oldest and so many follow, and go on from the key."""
        fields = more.to_bytes(2) + seq.to_bytes(6) + decode(call).rand
        return self._naming(Kind.RESYNC_REQUEST, b"resync request", fields)

    def response(self, request: bytes, seq: int) -> bytes:
        """Say in the receiver's place that round `seq` is the next, and go on from the key."""
        frame = self._frame(Kind.RESYNC_RESPONSE, decode(request).rand + self._id + seq.to_bytes(8))
        return encode(replace(frame, mac=self._mac(b"resync response", frame)))

    def _naming(self, kind: Kind, label: bytes, fields: bytes) -> bytes:
        frame = self._frame(kind, fields + self._id)
        return encode(replace(frame, message=frame.message + self._mac(label, frame)))

    def _frame(self, kind: Kind, message: bytes) -> Frame:
        return Frame(self._suite.profile, kind, rand=self._random(limits.NONCE_BYTES), message=message)

    def _mac(self, label: bytes, frame: Frame) -> bytes:
        return self._suite.label_mac(self.key, label, frame.rand + frame.message)
