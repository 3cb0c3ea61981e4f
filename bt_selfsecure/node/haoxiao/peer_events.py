"""What a `PeerMachine` is given at its start, and what it tells its driver, one by one, in order."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import field
from typing import Any, Final

from bt_selfsecure.node.haoxiao.confirmation import Trust
from bt_selfsecure.protocols.haoxiao.exported import KeptGenerations
from bt_selfsecure.protocols.haoxiao.record import SessionRecord
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.sansio.value import value

# --- links ------------------------------------------------------------------------------------------------------------


@value
class Send:
    """Send this datagram on this link, after those before it; one that takes nothing more is to be closed."""

    link: int
    data: bytes = field(repr=False)


@value
class SendBurst:
    """Send this packet of a burst on this link, on the radio where it is None, and tell by `burst_sent` when that is
    done; nothing else may wait for it."""

    link: int | None
    data: bytes = field(repr=False)


@value
class Dial:
    """Dial the peer on this bearer; tell `link_up` with `dialled`, or `dial_failed`."""

    bearer: str


@value
class HangUp:
    """Close this link; tell `link_down` when that is done."""

    link: int


@value
class TakeRadio:
    """Get the broadcast link of this peer, to hold it until `ReleaseRadio`; tell `radio_granted` or `radio_refused`,
    and `radio_lost` where it ends by itself."""


@value
class ReleaseRadio:
    """Give the broadcast link back, or wait for it no longer; nothing more is told of it."""


@value
class GatherBurst:
    """Find others to whom a burst is to be sent too, and give this machine its leg by `join_burst`; if it still
    gathers, as `burst_config` says then."""


# --- the disk ---------------------------------------------------------------------------------------------------------


class Note:
    """Asks for something to be noted for the next commit."""

    __slots__ = ()


@value
class KeepFragment(Note):
    """Note a fragment that waits for the session."""

    number: int
    fragment: bytes = field(repr=False)


@value
class DropFragment(Note):
    """Note that this fragment no longer waits."""

    number: int


@value
class KeepPiece(Note):
    """Note the next piece of a message that is half received."""

    piece: bytes = field(repr=False)


@value
class DropPieces(Note):
    """Note that no message is half received."""


@value
class GroupFragment:
    """Give this fragment of the peer's broadcast to the groups that it may be of."""

    data: bytes = field(repr=False)


@value
class KeepState(Note):
    """Note the newest state of the session; it replaces every earlier one."""

    record: SessionRecord = field(repr=False)
    key: dict[str, Any]
    """About the key in use; "born" is the time at which it was agreed on, None where not known."""
    offered: dict[str, Any]
    """About a newer one that the peer was not seen to use."""
    synchronised: bool
    trust: Trust
    generations: KeptGenerations


@value
class Deliver:
    """Note a whole message from the peer, and show it to its readers."""

    port: int
    message: bytes = field(repr=False)


class Urgency(enum.IntEnum):
    """Says when what was noted is to be on disk."""

    LATER = 1
    """Within a second or so."""
    NOW = 2
    """Now, so that a crash of the process does not take it."""
    SYNC = 3
    """Now, so that a loss of power does not take it."""


@value
class Commit:
    """Bring what was noted to the disk, all or nothing; then tell `persisted(token)`, which stands for earlier tokens,
    too. Where the disk refuses tell `refused`; what was noted stays so, and `persisted` comes when it is there.

    Unless it is for later, one of the two is told before the machine is given anything else.
    """

    token: int
    urgency: Urgency


# --- people and programs ----------------------------------------------------------------------------------------------


@value
class Kept:
    """The message of this number is on disk."""

    number: int


@value
class Refused:
    """The disk did not take the message of this number: it will not come."""

    number: int


@value
class Delivered:
    """The peer has the message of this number."""

    number: int


@value
class EstablishOutcome:
    """Tells what became of the key that was asked for; it answers all who asked."""

    reason: str = ""
    """Why there is none; empty where there is."""
    facts: dict[str, Any] | None = None
    """About the key, as `Key` in api_peer_types.py has them beside its age."""


@value
class GenerationAgreed:
    """Another generation of the keys for other programs is held by both ends."""


@value
class ForeignKeys:
    """Asks whether the keys that this frame of the peer's names are another peer's: its own they are not."""

    frame: bytes = field(repr=False)


class Level(enum.IntEnum):
    """Ranks a line of the log, as `logging` does."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@value
class Log:
    """Asks for a line in the log. It holds no secret."""

    level: Level
    text: str
    event: str = ""
    of_round: int | None = None


Output = (
    Note
    | Send
    | SendBurst
    | Dial
    | HangUp
    | TakeRadio
    | ReleaseRadio
    | GatherBurst
    | GroupFragment
    | Deliver
    | Commit
    | Kept
    | Refused
    | Delivered
    | EstablishOutcome
    | GenerationAgreed
    | ForeignKeys
    | Log
)


class Outputs:
    """Collects what the parts of one machine put out, in order, and what they want of its end of a turn.

    Datagrams come out first: what must be on disk before one leaves was there before it was put in, so the peer need
    not wait while the rest of the turn is noted and told.
    """

    def __init__(self) -> None:
        self._sends: Final[deque[Send]] = deque()
        self._queue: Final[deque[Output]] = deque()
        self.look_due = False
        """Something has changed that decides on links and keys."""
        self.urgency: Urgency | None = None
        """Of the commit that is due at the end of this turn."""
        self.token = 0
        """Of the commit that was asked for last, or, where one is due, will be."""

    def put(self, output: Output) -> None:
        self._queue.append(output)

    def send(self, link: int, data: bytes) -> None:
        self._sends.append(Send(link, data))

    def take(self) -> Output | None:
        queue = self._sends or self._queue
        return queue.popleft() if queue else None

    def log(self, level: Level, text: str, event: str = "", of_round: int | None = None) -> None:
        self._queue.append(Log(level, text, event, of_round))

    def commit(self, urgency: Urgency) -> int:
        """Ask for a commit at the end of this turn; return its token."""
        if self.urgency is None:
            self.token += 1
            self.urgency = urgency
        elif urgency > self.urgency:
            self.urgency = urgency
        return self.token

    def end_turn(self) -> None:
        if self.urgency is not None:
            self._queue.append(Commit(self.token, self.urgency))
            self.urgency = None


# --- what it is given -------------------------------------------------------------------------------------------------


@value
class PeerConfig:
    """Says how one peer's machine is to work: over which bearers, when a key is renewed, how much may wait."""

    name: str
    identity: bytes
    """Device address of the peer."""
    dial: str
    """"auto", "always" or "never"."""
    session: SessionConfig
    session_bearer: str
    establish_bearer: str
    no_radio: str
    """Why losses of a burst hide nothing from an eavesdropper; empty where a radio carries it."""
    fragment_bytes: int
    """Of one round's message."""
    queue_messages: int
    renew_hours: float
    renew_messages: int
    rests_on: Callable[[bool, bool, bool], str]
    """A sentence: on what a key's secrecy rests, by whether losses are visible, the key hybrid, and authenticated."""
    asks: bool = True
    """Whether this end asks for the first key, too; not a stranger's, who asks if he wants one."""
    shares_authentication_key: bool = False
    """The authentication key is that of other peers, too, so it does not tell which of them this is."""
    is_bootstrapped: bool = False
    """Whether the authentication key came of bootstrapping."""
    two_ways: bool = False
    """Keys are agreed on over links alone that have a key of their own, of two ways."""
    key_proves: bool = True
    """Whether the authentication key, where there is one, is this peer's alone, and kept by the two ends."""


@value
class Stored:
    """Brings back what the disk has kept of a peer, damaged or not."""

    record: SessionRecord | None = field(default=None, repr=False)
    key: dict[str, Any] = field(default_factory=dict)
    offered: dict[str, Any] = field(default_factory=dict)
    """As in `KeepState`."""
    synchronised: bool = False
    damage: str = ""
    """Why there is no record, where there should be one."""
    fragments: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)
    """Those that wait for the session, with their numbers."""
    pieces: tuple[bytes, ...] = field(default=(), repr=False)
    """Of the message that is half received."""
    dropped: int = 0
    """Messages, or parts of them, that the disk had damaged."""
    trust: Trust = field(default_factory=Trust)
    """Nothing is confirmed of a peer whose record is damaged."""
    generations: KeptGenerations = field(default_factory=KeptGenerations)
