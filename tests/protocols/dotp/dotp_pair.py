"""Two ends of D-OTP with a disk each, and an air that loses, doubles and crosses."""

from __future__ import annotations

from bt_selfsecure.protocols.dotp.endpoint import Dotp, DotpConfig, MessageReceived, Suspended
from bt_selfsecure.protocols.dotp.keys import Policy, Role
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.sansio.events import FrameRejected, Persist, Rejection

SN, SECRET = 1234, bytes(range(32))


def record(role: Role, policy: Policy | None = None, bits: int = 64) -> DotpRecord:
    """Return the beginning of a pair: in `hardened` where no policy is named."""
    return DotpRecord.hardened(role, SECRET) if policy is None else DotpRecord.paper(role, SN, policy, bits)


class End:
    """One end and its driver, which acts on a message once the record that counts it is written."""

    def __init__(self, record: DotpRecord, config: DotpConfig | None = None) -> None:
        self.config, self.disk = config, record.to_json()
        self.acted: list[MessageReceived] = []
        self.rejected: list[Rejection] = []
        self.suspensions = 0
        self.restart()

    def restart(self) -> None:
        """Begin from what is on the disk."""
        self.dotp = Dotp(DotpRecord.from_json(self.disk), self.config)
        self.told: list[MessageReceived] = []
        self.unwritten: tuple[Persist[DotpRecord], list[MessageReceived]] | None = None

    def listen(self) -> None:
        """Take the events; nothing is written yet."""
        while (event := self.dotp.next_event()) is not None:
            match event:
                case MessageReceived():
                    self.told.append(event)
                case Persist():
                    self.unwritten = event, list(self.told)
                case Suspended():
                    self.suspensions += 1
                case FrameRejected():
                    self.rejected.append(event.reason)

    def write(self) -> None:
        """Write the last record, and act on the messages that it counts."""
        self.listen()
        if self.unwritten is not None:
            persist, messages = self.unwritten
            self.disk, self.unwritten = persist.record.to_json(), None
            self.acted += messages
            self.told = self.told[len(messages) :]
            self.dotp.persisted(persist.token)

    def send(self, message: bytes) -> bytes:
        """Return the datagram of a message, with all written."""
        self.dotp.send(message, 0.0)
        self.write()
        (datagram,) = self.dotp.frames_to_send(0.0)
        return datagram

    def take(self, datagram: bytes) -> list[bytes]:
        """Return the messages that come of it."""
        before = len(self.acted)
        self.dotp.receive_frame(datagram, 0.0)
        self.write()
        return [event.message for event in self.acted[before:]]


def pair(policy: Policy | None = None, bits: int = 64, config: DotpConfig | None = None) -> tuple[End, End]:
    """Return client and server."""
    client, server = (End(record(role, policy, bits), config) for role in Role)
    return client, server
