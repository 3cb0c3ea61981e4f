"""What the local API takes, declared once: the parameters that the node reads, and the operations.

The description of each is what programs' authors read, as that of a type in api_types.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from bt_selfsecure.node.api_types import (
    Confirmed,
    Established,
    ExportedKey,
    Group,
    GroupList,
    Health,
    Level,
    LogLevel,
    NotEstablished,
    PairingLine,
    Peers,
    Port,
    Range,
    ReceivedLine,
    Sent,
    Sightings,
    Status,
)
from bt_selfsecure.node.message_limits import MAX_MESSAGE_BYTES

Until = Literal["durable", "acknowledged"]


# --- parameters -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoQuery:
    """Stands for an operation that takes no parameters."""


@dataclass(frozen=True, slots=True)
class SendQuery:
    """Says how to send a message."""

    port: Port = 0
    """0 for messages, 1 for `pipe`, others are free."""
    until: Until = "durable"
    """When to answer: the message is kept here, or the peer has it."""
    timeout: Annotated[float, Range(0, 86_400)] = 60.0
    """Seconds to wait for that."""


@dataclass(frozen=True, slots=True)
class EstablishQuery:
    """Says how to agree on a key."""

    wait: bool = False
    """Wait for the other end to begin, where a person asks for it as well; so both get the string of one key. It waits
    until the program goes."""
    without_continuity: bool = False
    """Take a key that does not mix in the one before, from whoever answers: the peer is not confirmed any more."""


@dataclass(frozen=True, slots=True)
class ConfirmQuery:
    """Says what a person has compared."""

    string: str = ""
    """The string that the other end shows; its six digits suffice, or its four words."""
    differs: bool = False
    """It shows another one: nothing is confirmed, and this string is not shown again."""


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """Says which key a program is to have."""

    label: str
    """What the key is for, 1 to 64 bytes: the same at both ends. Keys of two labels tell nothing of each other."""
    bytes: Annotated[int, Range(1, 1024)] = 32
    """Length of the key."""
    after: str = ""
    """Wait for another generation than this one, which the program has."""
    rotate: bool = False
    """Go on to the next generation first."""
    timeout: Annotated[float, Range(0, 86_400)] = 60.0
    """Seconds to wait until both ends hold it."""


@dataclass(frozen=True, slots=True)
class ReceiveQuery:
    """Says which messages to read."""

    peer: str | None = None
    """From this peer only."""
    port: Port = 0
    """Of this port."""
    follow: bool = False
    """Wait for further ones."""


@dataclass(frozen=True, slots=True)
class CreateQuery:
    """Says who is in a new group."""

    members: str = ""
    """Names or addresses of peers, with commas between."""


@dataclass(frozen=True, slots=True)
class MembersQuery:
    """Says how the members change; each list has commas between its names or addresses."""

    add: str = ""
    """Who joins: can't read what was before."""
    remove: str = ""
    """Who is out: can't read what follows."""


@dataclass(frozen=True, slots=True)
class EndQuery:
    """Says whose group it is."""

    leave: bool = False
    """Another node's, of which this one is to be no member any more."""


@dataclass(frozen=True, slots=True)
class ScanQuery:
    """Says how long to look for nodes."""

    seconds: Annotated[float, Range(1, 60)] = 6.0
    """How long."""


@dataclass(frozen=True, slots=True)
class PairQuery:
    """Says how to pair."""

    way: Literal["words", "code", "call"]
    """What is carried from one device to the other: three words, a code of 39 bytes, or a call of 16 bytes that others
    hear, too."""
    address: str = ""
    """With words that were read: the device address of the one that shows them."""
    udp: str = ""
    """Where that device listens, on a node whose bearer is udp."""
    name: str = ""
    """What the peer is to be called here; by default what it calls itself."""


@dataclass(frozen=True, slots=True)
class ComparedQuery:
    """Says what a person has seen at both ends."""

    same: bool
    """The strings are the same."""
    string: str = ""
    """That of this end; it is refused where there is a newer one."""


@dataclass(frozen=True, slots=True)
class LevelQuery:
    """Says what to log."""

    level: Level
    """Least important messages."""


# --- operations -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operation:
    """Describes one thing that a program can ask of the node."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    summary: str
    answer: Any
    """Type of the answer with status 200; None where there is no content (204)."""
    said: str
    """What that answer means."""
    query: type = NoQuery
    errors: Mapping[int, str] = field(default_factory=dict)
    """Beside 400, 500 and 503, which each can give."""
    media: str = "application/json"
    body: str = ""
    """What the request's body is, if it has one."""


NO_PEER: Final = "There is no such peer."
NO_GROUP: Final = "There is no such group, or no such peer."
OPERATIONS: Final[Mapping[str, Operation]] = {
    "health": Operation(
        "GET",
        "/v1/health",
        "Whether the node can do its work; with status 503 where something is in its way",
        Health,
        "It can.",
    ),
    "status": Operation("GET", "/v1/status", "The node and its peers", Status, "Status."),
    "peers": Operation("GET", "/v1/peers", "The peers", Peers, "Peers."),
    "send": Operation(
        "POST",
        "/v1/peers/{peer}/messages",
        "Send a message; the body is its bytes",
        Sent,
        "It is durable, or acknowledged.",
        SendQuery,
        {
            404: NO_PEER,
            413: "The message is too long.",
            429: "The queue for this peer is full; Retry-After says for how many seconds to wait.",
            504: "Not acknowledged in time; the message stays queued.",
        },
        body=f"The message, 0 to {MAX_MESSAGE_BYTES:,} bytes.",
    ),
    "establish": Operation(
        "POST",
        "/v1/peers/{peer}/establish",
        "Agree on a new key now; answers when that has ended, which takes a burst",
        Established | NotEstablished,
        "How it ended.",
        EstablishQuery,
        {404: NO_PEER},
    ),
    "confirm": Operation(
        "POST",
        "/v1/peers/{peer}/confirm",
        "A person has compared the short authentication strings of both ends",
        Confirmed,
        "What became of it.",
        ConfirmQuery,
        {404: NO_PEER},
    ),
    "key": Operation(
        "POST",
        "/v1/peers/{peer}/key",
        "A key for another program, which the other end gives to its programs, too",
        ExportedKey,
        "The key. It is a secret: what reads it must keep it.",
        KeyQuery,
        {404: NO_PEER, 504: "The two ends hold no such generation yet."},
    ),
    "receive": Operation(
        "GET",
        "/v1/messages",
        "Received messages, one JSON object a line, the oldest first, until each is acknowledged",
        ReceivedLine,
        "With follow, it ends only when the node stops or the reader goes.",
        ReceiveQuery,
        {404: NO_PEER, 409: "Another program reads these messages."},
        media="application/x-ndjson",
    ),
    "acknowledge": Operation(
        "DELETE",
        "/v1/messages/{id}",
        "The reader has this message: forget it",
        None,
        "Forgotten, now or before.",
    ),
    "groups": Operation("GET", "/v1/groups", "The groups of this node, as owner and as member", GroupList, "Groups."),
    "create_group": Operation(
        "POST",
        "/v1/groups/{group}",
        "Begin a group of peers; over le_advert one burst comes first, which takes its time",
        Group,
        "The group.",
        CreateQuery,
        {404: NO_PEER},
    ),
    "change_group": Operation(
        "POST",
        "/v1/groups/{group}/members",
        "Change who is in a group of this node's, by another epoch of its key",
        Group,
        "The group.",
        MembersQuery,
        {404: NO_GROUP},
    ),
    "send_to_group": Operation(
        "POST",
        "/v1/groups/{group}/messages",
        "Send to all members of a group of this node's, by one broadcast; the body is the message's bytes",
        Sent,
        "It is durable: each member gets it once, in order.",
        errors={
            404: NO_GROUP,
            413: "The message is too long for a broadcast.",
            429: "Too many messages are under way; Retry-After says for how many seconds to wait.",
        },
        body="The message, 0 to 200 bytes.",
    ),
    "end_group": Operation(
        "DELETE",
        "/v1/groups/{group}",
        "Delete a group of this node's, or with `leave` be no member any more of another's",
        None,
        "It is done here; the others are told.",
        EndQuery,
        errors={404: NO_GROUP},
    ),
    "scan": Operation("POST", "/v1/scan", "Look for nodes", Sightings, "Who was heard.", ScanQuery),
    "pair": Operation(
        "POST",
        "/v1/pair",
        "Pair with a device; the body is what was read of it, and empty where this node is to show something. Whoever "
        "reads no further before the last line has given it up",
        PairingLine,
        "One JSON object a line; the last is `paired` or `failed`.",
        PairQuery,
        {409: "Another pairing is under way."},
        media="application/x-ndjson",
        body="The code or call as bytes, or the words; 0 to 64 bytes.",
    ),
    "compared": Operation(
        "POST",
        "/v1/pair/compared",
        "A person has compared the strings of a pairing",
        None,
        "Taken.",
        ComparedQuery,
    ),
    "forget": Operation(
        "DELETE",
        "/v1/paired/{peer}",
        "Let a peer go that was paired: its keys and messages are erased",
        None,
        "Nothing of it is left.",
        errors={404: NO_PEER},
    ),
    "metrics": Operation(
        "GET",
        "/v1/metrics",
        "The figures of status, for Prometheus",
        str,
        "Text format 0.0.4.",
        media="text/plain",
    ),
    "log_level": Operation("GET", "/v1/log-level", "What is logged", LogLevel, "Now."),
    "set_log_level": Operation(
        "PUT", "/v1/log-level", "Log more or less until the node ends", LogLevel, "From now on.", LevelQuery
    ),
    "openapi": Operation("GET", "/v1/openapi.json", "This description", dict, "OpenAPI 3.1."),
}
