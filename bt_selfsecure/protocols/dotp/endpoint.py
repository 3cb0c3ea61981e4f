"""The object layer: each datagram under keys of its own, without a handshake.

    paper       [serial 4 ||] message XOR key blocks      serial: the number of the first key block
    hardened    serial 4 || AEAD_AES_SIV_CMAC_256         serial: the number of the key, and the associated data

`Dotp` has the five verbs, `send` and `persisted`. No timer: what is lost is CoAP's to repeat, under a new number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.dotp.keys import (
    EPOCH_BITS,
    PAPER_WINDOW,
    SERIAL_BYTES,
    ExhaustedError,
    Keys,
    Profile,
    Role,
)
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.protocols.dotp.window import Window
from bt_selfsecure.sansio.endpoint import EventQueue
from bt_selfsecure.sansio.events import FrameRejected, Persist, Rejection
from bt_selfsecure.sansio.value import value

TAG_BYTES: Final = 16
MOST_MESSAGE_BYTES: Final = 1152
"""As CoAP recommends (RFC 7252 section 4.6)."""
RESERVED: Final = 256
"""So many numbers are written as used before the first of them is, where the driver says no other."""
HARDENED_WINDOW: Final = 64
MOST_SKIPPED: Final = {Profile.PAPER: PAPER_WINDOW, Profile.HARDENED: 1 << 20}
"""More lost in a row, and the two ends are out of step: `paper` has to make each key on the way, so it stops sooner."""
MOST_EVENTS: Final = 1024


@value
class DotpConfig:
    """Says how an end reserves, and chooses between two readings of the paper that show why it mended them: `hardened`
    takes neither, and both ends must use the same."""

    serial: bool = True
    """False: no serial on the wire (Fig. 10a)."""
    two_keys: bool = True
    """False: one SN and one count for both directions (Fig. 11a)."""
    reserved: int = RESERVED
    """Numbers written as used at once: so many a crash skips."""


@value
class MessageReceived:
    """A message came, in `hardened` surely from the peer and for the first time."""

    number: int
    message: bytes


@value
class Suspended:
    """The numbers of this direction are used up: nothing is sent any more. Told once."""


Event = MessageReceived | Suspended | Persist[DotpRecord]


class Dotp:
    """Is one end of a pair. Give it a `DotpRecord`: a new one, or the last that was written.

    Take the events first, then the frames. A message is told before the `Persist` that counts it: who writes that
    before he acts has each message once, also across a crash. Frames wait for `persisted(token)`. Raises `LocalError`
    for misuse by the driver, and `ExhaustedError` where `send` has no number left.
    """

    def __init__(self, record: DotpRecord, config: DotpConfig | None = None) -> None:
        self._config: Final = config or DotpConfig()
        self._profile: Final = record.profile
        self._paper: Final = record.profile is Profile.PAPER
        if not self._paper and not (self._config.serial and self._config.two_keys):
            raise LocalError("hardened has a serial number and two keys: these readings are the paper's")
        if not self._config.two_keys:  # both on the client's side
            client = record.sending if record.role is Role.CLIENT else record.receiving
            both = max(record.sending.number, record.receiving.number)
            record = replace(record, sending=replace(client, number=both), receiving=replace(client, number=both))
        self._record = record
        self._events: Final[EventQueue[Event]] = EventQueue(MOST_EVENTS)
        self._sending: Final[Keys] = record.sending.keys(record)
        self._receiving: Final[Keys] = record.receiving.keys(record) if self._config.two_keys else self._sending
        self._number = self._reserved = record.sending.number
        size = PAPER_WINDOW if self._paper else HARDENED_WINDOW
        self._window: Final = Window(size, MOST_SKIPPED[record.profile], record.receiving.number, record.receiving.seen)
        self._frames: Final[deque[tuple[int, bytes]]] = deque()
        self._token = self._persisted = 0
        self._suspended = False

    # --- the verbs ----------------------------------------------------------------------------------------------------

    @property
    def record(self) -> DotpRecord:
        """Return the state to be written: as if all reserved numbers were used. Holds secrets."""
        record, window = self._record, self._window
        sending = replace(record.sending, number=self._reserved)
        receiving = replace(record.receiving, number=window.following, seen=window.seen)
        if not self._paper:
            (epoch, secret), (its_epoch, its_secret) = self._sending.state, self._receiving.state
            sending = replace(sending, epoch=epoch, secret=secret)
            receiving = replace(receiving, epoch=its_epoch, secret=its_secret)
        return replace(record, sending=sending, receiving=receiving)

    @property
    def next_number(self) -> int:
        """Return the number that `send` takes next."""
        return self._number

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        """Return how many datagrams changed nothing, by reason."""
        return self._events.rejections

    def send(self, message: bytes, now: float) -> int:
        """Seal the message and return its number; it leaves once that is written as used.

        Raises `ExhaustedError` where no number is left, and `LocalError` for none or more than `MOST_MESSAGE_BYTES`.
        """
        if not 1 <= len(message) <= MOST_MESSAGE_BYTES:
            raise LocalError(f"a message has 1 to {MOST_MESSAGE_BYTES} bytes, this has {len(message)}")
        number, count = self._number, self._keys_of(len(message))
        if number + count > self._sending.numbers:
            if not self._suspended:
                self._suspended = True
                self._events.put(Suspended())
            raise ExhaustedError
        self._number += count
        if not self._config.two_keys:
            self._window.mark(number, count)
        self._sending.forget_before(number)
        sealed = self._xor(self._sending, number, message) if self._paper else self._seal(number, message)
        if self._number > self._reserved:
            epoch_end = (number >> EPOCH_BITS) + 1 << EPOCH_BITS  # where the disk has to forget, too
            self._reserved = max(self._number, min(self._number + self._config.reserved, epoch_end))
            self._persist()
        serial = number.to_bytes(SERIAL_BYTES) if self._config.serial else b""
        self._frames.append((self._token, serial + sealed))
        return number

    def persisted(self, token: int) -> None:
        """Release what waits for the record with this token, or an earlier one."""
        self._persisted = max(self._persisted, min(token, self._token))

    def receive_frame(self, data: bytes, now: float) -> None:
        """Take one datagram. Never raises for what it contains."""
        serial = SERIAL_BYTES if self._config.serial else 0
        length = len(data) - serial - (0 if self._paper else TAG_BYTES)
        if not 1 <= length <= MOST_MESSAGE_BYTES:
            self._events.reject(Rejection.MALFORMED)
            return
        window, count = self._window, self._keys_of(length)
        number = int.from_bytes(data[:serial]) if serial else window.following
        if number + count > self._receiving.numbers or window.is_too_far(number, count):
            self._events.reject(Rejection.NOT_FOR_US, "too far ahead")
        elif window.is_old(number, count):
            self._events.reject(Rejection.REPLAY, f"number {number}")
        elif self._paper:
            self._take(number, count, self._xor(self._receiving, number, data[serial:]))
        else:
            try:
                message = AESSIV(self._receiving.key(number)).decrypt(data[serial:], [data[:serial]])
            except InvalidTag:
                self._events.reject(Rejection.UNAUTHENTIC, f"number {number}")
            else:
                self._take(number, count, message)

    def frames_to_send(self, now: float) -> list[bytes]:
        """Return the datagrams whose numbers are written as used."""
        frames, due = self._frames, []
        while frames and frames[0][0] <= self._persisted:
            due.append(frames.popleft()[1])
        return due

    def get_timer(self) -> float | None:
        """Return None: nothing is done by time."""
        return None

    def handle_timer(self, now: float) -> None:
        """Do nothing."""

    def next_event(self) -> Event | FrameRejected | None:
        """Return the oldest event that was not taken yet, and forget it; None where there is none."""
        return self._events.take()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _keys_of(self, length: int) -> int:
        """Return how many keys a message takes."""
        return -(-8 * length // self._record.bits) if self._paper else 1

    def _xor(self, keys: Keys, number: int, data: bytes) -> bytes:
        pad = b"".join(keys.key(number + each) for each in range(self._keys_of(len(data))))[: len(data)]
        return (int.from_bytes(data) ^ int.from_bytes(pad)).to_bytes(len(data))

    def _seal(self, number: int, message: bytes) -> bytes:
        return AESSIV(self._sending.key(number)).encrypt(message, [number.to_bytes(SERIAL_BYTES)])

    def _take(self, number: int, count: int, message: bytes) -> None:
        self._window.mark(number, count)
        self._receiving.forget_before(self._window.oldest)
        if not self._config.two_keys:
            self._number = max(self._number, self._window.following)
            self._reserved = max(self._reserved, self._number)
        self._events.put(MessageReceived(number, message))
        self._persist()

    def _persist(self) -> None:
        self._token += 1
        record = self.record
        self._events.put(Persist(self._token, (lambda: record,), True))
