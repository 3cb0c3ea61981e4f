"""What the local API says of a peer, declared once: types as in api_types.py, which tells what is made of them."""

from __future__ import annotations

from typing import Literal, TypedDict


class Link(TypedDict):
    """Describes the open link."""

    bearer: str
    """As in rfcomm."""
    age_s: float
    """Seconds since it was opened."""
    since: float
    """When that was, seconds since 1970-01-01 UTC, by the clock as it is now."""
    losses_visible: bool
    """Whether packets that the radio loses are missing here, or the link repeats them."""
    encrypted: bool
    """Whether the controllers encrypt it, as far as the system tells; on relay, each hop by a session."""
    path: list[str]
    """Names or addresses of the nodes that carry it, from here to the peer, as they told; empty where nobody does."""
    second_path: list[str]
    """The same of a second way without a common node; empty where there is one way."""
    round_trip_s: float | None
    """Seconds that an answer took when it was opened; null where that was not measured."""


class Shared(TypedDict):
    """Describes another peer to whom a key's burst was sent, too."""

    peer: str
    """Its device address."""
    missed: int
    """Packets that became the key and that it did not receive: with none it could compute the key, where no X25519
    secret is mixed in."""


class Key(TypedDict):
    """Tells facts about the key that both ends hold, never the key."""

    fingerprint: str
    """Short public name of the key, equal at both ends."""
    secret_bits: float
    """Secret bits by the losses alone, for the configured bound on an eavesdropper's loss; 0 without a radio."""
    target_bits: float
    """What was asked for."""
    sent: int
    """Burst packets that were sent, as far as this end knows."""
    received: int
    """Burst packets that became the key."""
    sas: str
    """Short authentication string: compare it with the other end's, once, to exclude a man in the middle. Empty where
    nobody at this end has asked for this key, or it was compared."""
    authenticated: bool
    """Whether a pre-shared key proved the peer, and is no other peer's. If not, only comparing `sas` does."""
    continuity: bool
    """Whether the key before this one is mixed in, so that it is still the same peer."""
    hybrid: bool
    """Whether an X25519 secret is mixed in."""
    bearer: str
    """What carried the burst."""
    own_address: str
    """This node's device address then; empty where an older version agreed on the key."""
    rests_on: str
    """On what the secrecy rests, in a sentence."""
    shared: list[Shared]
    """The others who heard its burst, as far as this node knows: it does where it sent the burst."""
    age_s: float | None
    """Seconds since it was agreed on, by a clock that does not jump; null where the clock was set while the node was
    off."""
    since: float | None
    """When that was, seconds since 1970-01-01 UTC, by the clock as it is now."""


class Trust(TypedDict):
    """Says whether the peer is the one that is meant."""

    confirmed: Literal["string", "authentication key", "bootstrapped"] | None
    """How that became known: a person has compared the strings, or it has the authentication key of this peer alone,
    which perhaps came of bootstrapping; null where it is not confirmed. A confirmed peer gets no key that does not mix
    in the one before."""
    by: str
    """User of this computer who has compared; empty where nobody did."""
    confirmed_age_s: float | None
    """Seconds since then; null where that is not known."""
    confirmed_since: float | None
    """When that was, seconds since 1970-01-01 UTC, by the clock as it is now."""
    differed_by: str | None
    """User of this computer who has compared last and said that the strings differ, perhaps empty; null where nobody
    did, or some were equal since."""
    differed_age_s: float | None
    """Seconds since then; null where that is not known."""
    differed_since: float | None
    """When that was."""
    first_age_s: float | None
    """Seconds since the first key with this peer, or since it lost its confirmation; null where that is not known."""
    first_since: float | None
    """When that was."""
    keys_from_nowhere: int
    """Keys since then that replaced one in use and did not mix it in, of a peer that is not confirmed."""
    shared_key: bool
    """Whether the authentication key is that of other peers, too: it does not tell which of them this is."""
    refused: int
    """Keys that were refused since the one in use was not to be mixed in: since the node's start, or since the peer was
    confirmed, or was no longer."""
    refused_why: Literal["no continuity", "restored", "too soon"] | None
    """Why the last of them was: of a confirmed peer, or of one whose state at this end was put back from a copy; or, of
    one that is not confirmed, others came just before. null where there was none."""
    refused_age_s: float | None
    """Seconds since the last of them; null where there was none."""
    refused_since: float | None
    """When that was."""


class Session(TypedDict):
    """Describes the secure session."""

    profile: str
    """hardened or paper."""
    sent: int
    """Seq of the next message out."""
    received: int
    """Seq of the next message in."""
    epoch: int
    """Counts resynchronisations."""


class Queues(TypedDict):
    """Counts the messages that wait."""

    outbox: int
    """For the peer."""
    inbox: int
    """For a reader here."""
    limit: int
    """Most that either takes."""


class Counts(TypedDict):
    """Counts what happened since the node began with this peer."""

    rounds_out: int
    """Rounds that the peer acknowledged."""
    rounds_in: int
    """Rounds that were accepted here."""
    frames: int
    """Data frames sent."""
    retransmissions: int
    """Of these, sent again."""
    resynchronisations: int
    """Times that a direction went on from a common checkpoint."""
    establishments: int
    """Keys that were agreed on."""
    failed_establishments: int
    """Establishments that ended without one."""
    links: int
    """Links that were opened."""
    dropped: int
    """Messages found damaged on the disk and dropped, or perhaps under way in a session that was."""
    keys_from_nowhere: int
    """Keys that replaced one in use and did not mix it in."""
    refused_keys: int
    """Keys that were refused since the one in use was not to be mixed in."""


class Progress(TypedDict):
    """Says how far the establishment under way has come."""

    sent: int | None
    """Burst packets sent so far; null at the end that hears them."""
    heard: int | None
    """Burst packets heard so far; null at the end that sends them."""
    needed: int
    """How many must arrive for a key."""


class Peer(TypedDict):
    """Describes a peer and what there is with it."""

    name: str
    """As configured; the address of a peer that is not."""
    address: str
    """Bluetooth device address, as in B8:27:EB:12:34:56."""
    state: str
    """A short phrase, as in connected, establishing, unreachable."""
    trouble: str
    """The last thing that went wrong, with its remedy; empty after a success."""
    link: Link | None
    key: Key | None
    session: Session | None
    trust: Trust
    queues: Queues
    counts: Counts
    rejections: dict[str, int]
    """Frames that changed nothing, counted by reason."""
    rssi: int | None
    """Signal strength as last heard, dBm."""
    silent_s: float | None
    """Seconds since the peer was last heard; null where it was not since the start."""
    last_seen: float | None
    """When that was, seconds since 1970-01-01 UTC, by the clock as it is now."""
    progress: Progress | None
