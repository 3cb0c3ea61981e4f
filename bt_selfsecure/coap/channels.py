"""What secures CoAP between two places, sans-IO: messages on the one side, datagrams on the other.

A server has a `Gate`, which finds the channel to which a datagram belongs; a client makes its channel itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.listener import DtlsListener, is_client_hello
from bt_selfsecure.dtls.values import Closed, Credentials, DataReceived, DtlsConfig, Established
from bt_selfsecure.errors import PeerError
from bt_selfsecure.protocols.dotp.endpoint import Dotp, MessageReceived
from bt_selfsecure.protocols.dotp.keys import Role
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.events import Persist

MOST_QUEUED: Final = 16
"""Messages that wait for a handshake."""
Write = Callable[[DotpRecord], None]
"""Returns when the record is on disk."""
Admit = Callable[[bytes], bool]
"""Given the identity of a client whose handshake came through; returns whether its key is still unused, now noted."""


class ChannelError(PeerError):
    """A channel is over: its text says why."""


class Channel(Protocol):
    """Is one peer's security."""

    identity: str
    """Whom the peer was seen to be, empty where nothing proves it; of a client's session, who it says that it is."""
    ended: str
    """Why nothing passes any more; empty as long as it does."""
    heard: bool
    """Whether anything ever came."""

    @property
    def transmission(self) -> tuple[str, int]:
        """Return the D-OTP pair and the number under which it transmits now, for the manager; elsewhere ("", 0)."""
        ...

    def send(self, message: bytes, now: float) -> None:
        """Secure a message; its datagrams are due. Raises `BtSelfSecureError` where that can't be."""
        ...

    def receive(self, datagram: bytes, now: float) -> list[bytes]:
        """Return the messages that are in it. Never raises for what it contains."""
        ...

    def datagrams(self, now: float) -> list[bytes]:
        """Return the datagrams that are due, each once."""
        ...

    def get_timer(self) -> float | None:
        """Return when `handle_timer` wants to be called, or None."""
        ...

    def handle_timer(self, now: float) -> None: ...

    def close(self, now: float) -> None:
        """Say good-bye, where the protocol has one."""
        ...


class PlainChannel:
    """Has no security: a message is a datagram."""

    identity = ended = ""
    transmission = "", 0

    def __init__(self) -> None:
        self.heard = False
        self._due: list[bytes] = []

    def send(self, message: bytes, now: float) -> None:
        self._due.append(message)

    def receive(self, datagram: bytes, now: float) -> list[bytes]:
        self.heard = True
        return [datagram]

    def datagrams(self, now: float) -> list[bytes]:
        due, self._due = self._due, []
        return due

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None: ...

    def close(self, now: float) -> None: ...


class DtlsChannel:
    """Is a DTLS session. What is sent before it is established waits for that."""

    def __init__(self, end: Dtls, admit: Admit = lambda _identity: True) -> None:
        self._end: Final = end
        self._admit: Final = admit
        self._waiting: list[bytes] = []
        self.identity = self.ended = ""
        self.heard = False

    @property
    def established(self) -> bool:
        return self._end.established

    def is_unopened(self, datagram: bytes) -> bool:
        """Return whether this ends in a sealed record, and the handshake did not come through by it: then its key is
        another, or somebody changed it."""
        if self.established or self.ended:
            return False
        epoch, start = b"", 0
        while start + 13 <= len(datagram):
            epoch = datagram[start + 3 : start + 5]
            start += 13 + int.from_bytes(datagram[start + 11 : start + 13])
        return any(epoch)

    @property
    def transmission(self) -> tuple[str, int]:
        pair, _, session = self.identity.rpartition("/")
        return (pair, int(session)) if session.isdecimal() else ("", 0)

    def send(self, message: bytes, now: float) -> None:
        if self._end.established:
            self._end.send(message, now)
        elif len(self._waiting) < MOST_QUEUED:
            self._waiting.append(message)

    def receive(self, datagram: bytes, now: float) -> list[bytes]:
        self.heard = True
        self._end.receive_frame(datagram, now)
        return self.take(now)

    def take(self, now: float) -> list[bytes]:
        """Return the messages that the endpoint has told."""
        messages: list[bytes] = []
        for event in iter(self._end.next_event, None):
            match event:
                case Established(identity=identity) if not self._admit(identity):
                    self._end.close(now)
                    self.ended = "a key that is used was used again"
                    return []
                case Established(identity=identity):
                    self.identity = identity.decode(errors="replace")
                    for waiting in self._waiting:
                        self._end.send(waiting, now)
                    self._waiting.clear()
                case DataReceived(data=data):
                    messages.append(data)
                case Closed(reason=reason):
                    self.ended = reason
                case _:
                    pass
        return messages

    def datagrams(self, now: float) -> list[bytes]:
        return self._end.frames_to_send(now)

    def get_timer(self) -> float | None:
        return self._end.get_timer()

    def handle_timer(self, now: float) -> None:
        self._end.handle_timer(now)
        self.take(now)

    def close(self, now: float) -> None:
        self._end.close(now)
        self.ended = self.ended or "closed here"


class DotpChannel:
    """Is D-OTP's object layer: state, disk, air. A message is handed on once the record that counts it is written. Of a
    client the transmission is the number that it sends next, of a server the one that came last."""

    def __init__(self, end: Dotp, write: Write, identity: str) -> None:
        self._end: Final = end
        self._write: Final = write
        self.identity: str = identity
        self.ended = ""
        self.heard = False
        self._came = -1

    @property
    def transmission(self) -> tuple[str, int]:
        number = self._end.next_number if self._end.record.role is Role.CLIENT else self._came
        return self.identity, number

    def send(self, message: bytes, now: float) -> None:
        self._end.send(message, now)
        self._take()

    def receive(self, datagram: bytes, now: float) -> list[bytes]:
        self._end.receive_frame(datagram, now)
        messages = self._take()
        self.heard = self.heard or bool(messages)
        return messages

    def _take(self) -> list[bytes]:
        messages: list[bytes] = []
        last: Persist[DotpRecord] | None = None
        for event in iter(self._end.next_event, None):
            if isinstance(event, MessageReceived):
                messages.append(event.message)
                self._came = event.number
            elif isinstance(event, Persist):
                last = event
        if last is not None:
            self._write(last.record)
            self._end.persisted(last.token)
        return messages

    def datagrams(self, now: float) -> list[bytes]:
        return self._end.frames_to_send(now)

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None: ...

    def close(self, now: float) -> None: ...


class Gate(Protocol):
    """Is a server's entrance."""

    def is_anew(self, datagram: bytes, channel: Channel) -> bool:
        """Return whether the gate has to look at it, though there is a channel to where it comes from."""
        ...

    def admit(self, datagram: bytes, place: bytes, now: float) -> tuple[Channel | None, list[bytes]]:
        """Return the channel and the messages in it; or None, and the datagrams to answer with."""
        ...


class PlainGate:
    """Takes everybody."""

    def is_anew(self, datagram: bytes, channel: Channel) -> bool:
        return False

    def admit(self, datagram: bytes, place: bytes, now: float) -> tuple[Channel | None, list[bytes]]:
        channel = PlainChannel()
        return channel, channel.receive(datagram, now)


class DtlsGate:
    """Takes who brings its cookie back; whether it has a key shows in its channel."""

    def __init__(
        self,
        look_up: Callable[[bytes], bytes | None],
        admit: Admit,
        random: Random,
        now: float,
        config: DtlsConfig | None = None,
    ) -> None:
        self._listener: Final = DtlsListener(look_up, random, now, config)
        self._admit: Final = admit

    def is_anew(self, datagram: bytes, channel: Channel) -> bool:
        """Return whether it is a new hello where a session is: then its client was started again at the same port."""
        assert isinstance(channel, DtlsChannel)
        return bool(channel.ended) or (channel.established and is_client_hello(datagram))

    def admit(self, datagram: bytes, place: bytes, now: float) -> tuple[Channel | None, list[bytes]]:
        answer = self._listener.receive_frame(datagram, place, now)
        if not isinstance(answer, Dtls):
            return None, answer
        channel = DtlsChannel(answer, self._admit)
        return channel, channel.take(now)


class DotpGate:
    """Finds the pair that a datagram is of: the first under whose next keys it is authentic (Fig. 6b)."""

    def __init__(self, channels: Sequence[DotpChannel]) -> None:
        self._channels: Final = list(channels)

    def is_anew(self, datagram: bytes, channel: Channel) -> bool:
        return True

    def admit(self, datagram: bytes, place: bytes, now: float) -> tuple[Channel | None, list[bytes]]:
        for channel in self._channels:
            if messages := channel.receive(datagram, now):
                self._channels.remove(channel)
                self._channels.insert(0, channel)
                return channel, messages
        return None, []


def dtls_client(identity: bytes, key: bytes, now: float) -> DtlsChannel:
    """Return the channel of a client that has this key. Raises `NoLibsslError`."""
    channel = DtlsChannel(Dtls.client(lambda _hint: Credentials(identity, key), now))
    channel.identity = identity.decode(errors="replace")
    return channel
