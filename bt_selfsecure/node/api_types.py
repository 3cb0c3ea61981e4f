"""What the local API says, declared once: the types that the node fills in. `openapi.json`, which is served at
/v1/openapi.json, is made from this file, from what is said of a peer, in api_peer_types.py, and from the
operations, in api_operations.py (docs/generate.py).

A type's docstring and the sentence under each field are the description that programs' authors read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

from bt_selfsecure.node.api_peer_types import Key, Peer
from bt_selfsecure.node.config import LOG_LEVELS
from bt_selfsecure.node.message_limits import MAX_PORT

Level = Literal["debug", "info", "warning", "error"]
assert set(Level.__args__) == set(LOG_LEVELS)  # type: ignore[attr-defined]


class Range(NamedTuple):
    """Bounds a number, both ends included; `high` is None where there is no such bound."""

    low: float
    high: float | None = None

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        bounds = {"minimum": self.low, "maximum": self.high}
        return handler(schema) | {name: bound for name, bound in bounds.items() if bound is not None}


class Pattern(NamedTuple):
    """Bounds a text: all of it must match."""

    pattern: str
    said: str
    """Completes "must be ..."."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return handler(schema) | {"pattern": f"^({self.pattern})$"}


Port = Annotated[int, Range(0, MAX_PORT)]
Number = Annotated[int, Range(1, 2**63 - 1)]
"""Of a received message."""


class Error(TypedDict):
    """Says why a request was refused."""

    error: str
    """One line: what is wrong, and what to do."""


class Health(TypedDict):
    """Says whether the node can do its work."""

    healthy: bool
    """Whether there is no problem."""
    problems: list[str]
    """Each with its remedy, one sentence."""


class Discovery(TypedDict):
    """Says how nodes near are found; null without an adapter. No session depends on it."""

    advertising: str
    """bluez, raw-hci, paused, off."""
    advertising_trouble: str
    """Why not by bluez, or not at all; else empty."""
    scanning: bool
    """Whether it listens now."""
    scan_trouble: str
    """Why the last scan failed; else empty."""
    nodes_in_sight: int
    """Nodes heard since the start."""


class Journal(TypedDict):
    """Says how long the disk took to keep the node's state, since the start."""

    commits: int
    """How many."""
    seconds: float
    """All together."""
    slowest_s: float
    """The slowest, in seconds."""


class RelayCircuit(TypedDict):
    """Describes a link of others that goes through this node."""

    ends: list[str]
    """Its two ends: names of peers, or addresses."""
    neighbours: list[str]
    """Through whom each of them is reached from here; empty where the link is not open yet."""
    idle_s: float
    """Seconds since it carried something."""


class Route(TypedDict):
    """Describes by whom an end was found that is no neighbour, or not only one."""

    to: str
    """Its name, or address."""
    by: str
    """The neighbour that leads to it."""
    age_s: float
    """Seconds since it was found so; it is asked for anew after ten minutes."""


RelayPart = TypedDict("RelayPart", {"for": list[str]})


class Relay(RelayPart):
    """Says what the node carries for others; null where it is to carry nothing."""

    links: list[RelayCircuit]
    routes: list[Route]
    forwarded_bytes: dict[str, int]
    """Since there is an adapter, by the neighbour that they came from."""
    waiting_bytes: dict[str, int]
    """For a neighbour, now."""
    dropped: dict[str, int]
    """Frames that were not forwarded, by reason."""


class Member(TypedDict):
    """Describes a member of a group at its owner."""

    peer: str
    """Its name."""
    state: str
    """invited (its session has the welcome), current (it hears broadcasts), deaf (it hears none, or is silent: its
    session gets each), or away (it misses messages until it is back)."""
    acknowledged: int
    """It has all messages of this epoch before this one."""


class GroupCounts(TypedDict):
    """Counts what happened in a group since the start."""

    sent: int
    """Messages that this node sent to its group."""
    fragments: int
    """Advertisements, or datagrams, of their broadcasts."""
    letters: int
    """Messages of sessions about the group: welcomes, repairs and acknowledgements."""
    received: int
    """Messages that came here as to a member."""
    repaired: int
    """Of these, by the session and not by the broadcast."""
    rejected: int
    """Frames and letters that changed nothing."""


class Group(TypedDict):
    """Describes a group of which this node is the owner or a member."""

    name: str
    """As its owner has named it."""
    own: bool
    """Whether this node is the owner, who alone sends."""
    owner: str
    """Name of the owner."""
    epoch: int
    """Counts the changes of its members, and of its key."""
    number: int
    """Number of the next message of this epoch."""
    secret_bits: float | None
    """Secret bits of what all members have in common of one burst, which the group's key takes beside the secret that
    each has by its session; 0 where that is nothing, null at a member."""
    members: list[Member]
    """At the owner."""
    waiting: int
    """Messages that not all members are known to have."""
    counts: GroupCounts


class GroupList(TypedDict):
    """Lists all groups."""

    groups: list[Group]


class Peers(TypedDict):
    """Lists all peers."""

    peers: list[Peer]


class Status(TypedDict):
    """Describes the node and its peers."""

    version: str
    """Of this program."""
    name: str
    """Under which peers discover the node."""
    address: str | None
    """The adapter's device address; null while there is no adapter."""
    adapter: str
    """As in hci0; without one, what takes its place, and why that is no radio."""
    uptime_s: float
    """Seconds since the node started."""
    healthy: bool
    """Whether there is no problem."""
    problems: list[str]
    """Each with its remedy, one sentence."""
    discovery: Discovery | None
    journal: Journal
    relay: Relay | None
    peers: list[Peer]
    """As GET /v1/peers."""
    groups: list[Group]
    """As GET /v1/groups."""


class Established(Key):
    """Tells of an establishment that ended with a key."""

    established: Literal[True]
    peer: str
    """Name of the peer."""
    profile: str
    """hardened or paper."""
    reason: Literal[""]


class NotEstablished(TypedDict):
    """Tells of an establishment that ended without a key."""

    established: Literal[False]
    peer: str
    """Name of the peer."""
    reason: str
    """Why there is none, in a sentence."""


class Confirmed(TypedDict):
    """Says what became of a comparison."""

    confirmed: bool
    """Whether the peer is confirmed by it."""
    peer: str
    """Name of the peer."""
    reason: str
    """Why not, in a sentence; else empty."""


class ExportedKey(TypedDict):
    """Is a key for another program."""

    peer: str
    """Name of the peer."""
    generation: str
    """Names the generation that it is of, the same at both ends: 16 hexadecimal digits of the chain, which begins with
    each key that is agreed on, a dot, and the number in it."""
    key: str
    """Base64."""
    connected: bool
    """Whether there is a link with the peer."""
    silent_s: float | None
    """Seconds since the last datagram of the peer; null where there was none."""


class Sent(TypedDict):
    """The message is in the queue."""

    id: int
    """Its number, for the logs."""


class LogLevel(TypedDict):
    """Says what is logged."""

    level: Level
    """Least important messages."""


class ReceivedLine(TypedDict):
    """Holds one received message: one line of the stream."""

    id: Number
    """To acknowledge it by DELETE /v1/messages/{id}."""
    peer: str
    """Who sent it."""
    port: Port
    """On which port."""
    time: float
    """When it came, seconds since 1970-01-01 UTC, by the clock as it is now."""
    age_s: float | None
    """Seconds since then; null for what came before the node was started."""
    message: str
    """The bytes, in base64."""
    group: str
    """Name of the sender's group to which it was sent; empty for one to this node alone."""


class Sighting(TypedDict):
    """Describes a node that was heard."""

    address: str
    """Bluetooth device address."""
    name: str | None
    """As advertised."""
    rssi: int | None
    """Signal strength, dBm."""
    peer: str | None
    """Name of the configured peer that it is."""
    profile: str | None
    """That it speaks."""
    version: int | None
    """Of the protocol that it speaks."""


class Sightings(TypedDict):
    """Lists all nodes that were heard."""

    nodes: list[Sighting]


class PairingLine(TypedDict):
    """Tells how a pairing goes on: one line of the stream. What does not belong to an event is empty."""

    event: Literal["shown", "calling", "trouble", "wrong", "keyed", "released", "string", "paired", "failed"]
    """`shown`: `code` is to be carried. `wrong`: somebody guessed, `left` guesses are left. `keyed`: the other device
    has proved itself, and a key is agreed on. `released`: it has given up, what is shown still holds. `string`: people
    are to compare, then POST /v1/pair/compared."""
    peer: str
    """What the other device is called here."""
    address: str
    """Its device address; in `shown` this node's."""
    code: str
    """In `shown`: hexadecimal digits, or three words."""
    place: str
    """In `shown`: where this node listens, on udp."""
    string: str
    """What both ends must show."""
    text: str
    """For people: why it is delayed, or failed."""
    left: int
