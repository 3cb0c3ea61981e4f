"""What happened, counted: per peer since the node began with it, and all of it in Prometheus's text format.

    # HELP bt_selfsecure_rounds_total Messages' rounds that were acknowledged ...
    # TYPE bt_selfsecure_rounds_total counter
    bt_selfsecure_rounds_total{direction="out",peer="bob"} 1204

Made from the status alone, so it can show no secret. Counters begin at 0 with the daemon, as Prometheus expects. The
format is prometheus_client's work, which is imported where the first figures are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from bt_selfsecure.node import api_peer_types
from bt_selfsecure.node.api_peer_types import Key, Peer
from bt_selfsecure.node.api_types import Group, Status
from bt_selfsecure.node.shares import burst_loss

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "bt_selfsecure_"

Sample = tuple[dict[str, str], float]
Read = Callable[[Status], Iterator[Sample]]
"""The samples of one metric, from a status."""


@dataclass(slots=True)
class PeerCounters:
    """Counts what happened with one peer."""

    rounds_out: int = 0
    rounds_in: int = 0
    frames: int = 0
    retransmissions: int = 0
    resynchronisations: int = 0
    establishments: int = 0
    failed_establishments: int = 0
    links: int = 0
    dropped: int = 0
    keys_from_nowhere: int = 0
    refused_keys: int = 0

    def told(self) -> api_peer_types.Counts:
        """Return the counters as the local API has them."""
        return cast(api_peer_types.Counts, asdict(self))


def _of_peers(read: Callable[[Peer], float | None]) -> Read:
    """One sample a peer, where there is one to read."""

    def samples(status: Status) -> Iterator[Sample]:
        for peer in status["peers"]:
            if (value := read(peer)) is not None:
                yield {"peer": peer["name"]}, value

    return samples


def _of_keys(read: Callable[[Key], float | None]) -> Read:
    return _of_peers(lambda peer: read(peer["key"]) if peer["key"] else None)


def _of_node(read: Callable[[Status], float]) -> Read:
    return lambda status: iter([({}, read(status))])


def _two_ways(read: Callable[[Peer], tuple[float, float]]) -> Read:
    """Two figures of each peer: what goes out, what comes in."""

    def samples(status: Status) -> Iterator[Sample]:
        for peer in status["peers"]:
            for direction, value in zip(("out", "in"), read(peer), strict=True):
                yield {"peer": peer["name"], "direction": direction}, value

    return samples


def _rejections(status: Status) -> Iterator[Sample]:
    for peer in status["peers"]:
        for reason, count in peer["rejections"].items():
            yield {"peer": peer["name"], "reason": reason}, count


def _carried(status: Status) -> Iterator[Sample]:
    for peer, count in (status["relay"] or {"forwarded_bytes": {}})["forwarded_bytes"].items():
        yield {"peer": peer}, count


def _not_carried(status: Status) -> Iterator[Sample]:
    for reason, count in (status["relay"] or {"dropped": {}})["dropped"].items():
        yield {"reason": reason}, count


def _relay_routes(status: Status) -> Iterator[Sample]:
    if relay := status["relay"]:
        yield {}, len(relay["routes"])


def _relay_links(status: Status) -> Iterator[Sample]:
    if relay := status["relay"]:
        yield {}, len(relay["links"])


def _build(status: Status) -> Iterator[Sample]:
    yield {"version": status["version"]}, 1


def _of_groups(read: Callable[[Group], float]) -> Read:
    """One sample a group."""

    def samples(status: Status) -> Iterator[Sample]:
        for group in status["groups"]:
            yield {"group": group["name"], "owner": group["owner"]}, read(group)

    return samples


METRICS: Final[tuple[tuple[str, str, str, Read], ...]] = (
    ("build_info", "gauge", "The program's version; always 1.", _build),
    ("healthy", "gauge", "1 if the node has no problem.", _of_node(lambda status: status["healthy"])),
    ("uptime_seconds", "gauge", "Since the node started.", _of_node(lambda status: status["uptime_s"])),
    ("connected", "gauge", "1 while the peer is connected.", _of_peers(lambda peer: peer["state"] == "connected")),
    (
        "rounds_total",
        "counter",
        "Rounds that were completed: acknowledged (out), accepted (in).",
        _two_ways(lambda peer: (peer["counts"]["rounds_out"], peer["counts"]["rounds_in"])),
    ),
    ("data_frames_total", "counter", "Data frames sent.", _of_peers(lambda peer: peer["counts"]["frames"])),
    (
        "retransmissions_total",
        "counter",
        "Data frames sent again; divided by data_frames_total: the share of attempts or acknowledgements lost.",
        _of_peers(lambda peer: peer["counts"]["retransmissions"]),
    ),
    (
        "resynchronisations_total",
        "counter",
        "Times that a direction went on from a common checkpoint.",
        _of_peers(lambda peer: peer["counts"]["resynchronisations"]),
    ),
    (
        "establishments_total",
        "counter",
        "Keys that were agreed on.",
        _of_peers(lambda peer: peer["counts"]["establishments"]),
    ),
    (
        "failed_establishments_total",
        "counter",
        "Establishments that ended without a key.",
        _of_peers(lambda peer: peer["counts"]["failed_establishments"]),
    ),
    (
        "confirmed",
        "gauge",
        "1 where it is known that the peer is the one that is meant, 0 where it is not.",
        _of_peers(lambda peer: peer["trust"]["confirmed"] is not None),
    ),
    (
        "keys_from_nowhere_total",
        "counter",
        "Keys that did not mix in the one that they replaced: from a peer that lost its state, or from another one.",
        _of_peers(lambda peer: peer["counts"]["keys_from_nowhere"]),
    ),
    (
        "refused_keys_total",
        "counter",
        "Keys that were refused since the one in use was not to be mixed in.",
        _of_peers(lambda peer: peer["counts"]["refused_keys"]),
    ),
    ("links_total", "counter", "Links that were opened.", _of_peers(lambda peer: peer["counts"]["links"])),
    (
        "dropped_total",
        "counter",
        "Messages found damaged on the disk and dropped, or perhaps under way in a session that was.",
        _of_peers(lambda peer: peer["counts"]["dropped"]),
    ),
    ("rejected_frames_total", "counter", "Frames from the air that changed nothing.", _rejections),
    (
        "key_secret_bits",
        "gauge",
        "Secret bits of the key by its losses alone, for the configured bound.",
        _of_keys(lambda key: key["secret_bits"]),
    ),
    (
        "key_age_seconds",
        "gauge",
        "Since the key was agreed on, where that is known.",
        _of_keys(lambda key: key["age_s"]),
    ),
    ("burst_loss_ratio", "gauge", "Share of the key's burst that the responder did not receive.", _of_keys(burst_loss)),
    ("rssi_dbm", "gauge", "Signal strength as last heard.", _of_peers(lambda peer: peer["rssi"])),
    (
        "queued_messages",
        "gauge",
        "Messages that wait, for the peer (out) or for a reader here (in).",
        _two_ways(lambda peer: (peer["queues"]["outbox"], peer["queues"]["inbox"])),
    ),
    ("relay_links", "gauge", "Links of others that go through this node.", _relay_links),
    ("relay_routes", "gauge", "Ends of which the relay knows by whom they are reached.", _relay_routes),
    ("relay_forwarded_bytes_total", "counter", "Carried for others, by the neighbour that they came from.", _carried),
    ("relay_dropped_frames_total", "counter", "Frames of others that were not carried.", _not_carried),
    ("group_epoch", "gauge", "Epoch of a group.", _of_groups(lambda group: group["epoch"])),
    (
        "group_messages_total",
        "counter",
        "Messages of a group: sent by its owner, or received by a member.",
        _of_groups(lambda group: group["counts"]["sent"] + group["counts"]["received"]),
    ),
    (
        "group_repaired_total",
        "counter",
        "Messages of a group that came by the session and not by the broadcast.",
        _of_groups(lambda group: group["counts"]["repaired"]),
    ),
    (
        "group_members_away",
        "gauge",
        "Members of this node's group that miss messages until they are back.",
        _of_groups(lambda group: sum(member["state"] == "away" for member in group["members"])),
    ),
    (
        "journal_commit_slowest_seconds",
        "gauge",
        "The slowest of them.",
        _of_node(lambda status: status["journal"]["slowest_s"]),
    ),
)
"""Name without prefix, type, help, and what reads its samples from a status."""


def families(status: Status) -> Iterator[Metric]:
    """Yield all figures, as prometheus_client has them."""
    from prometheus_client import Metric

    for name, kind, doc, read in METRICS:
        family = Metric(PREFIX + name.removesuffix("_total"), doc, kind)
        for labels, value in read(status):
            family.add_sample(PREFIX + name, labels, value)
        yield family
    commits = Metric(f"{PREFIX}journal_commit_seconds", "Commits to the disk, and the time that they took.", "summary")
    commits.add_sample(f"{commits.name}_count", {}, status["journal"]["commits"])
    commits.add_sample(f"{commits.name}_sum", {}, status["journal"]["seconds"])
    yield commits


def render(status: Status) -> bytes:
    """Return the figures as text, format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats)."""
    from prometheus_client import generate_latest

    return generate_latest(_Collected(list(families(status))))


@dataclass(frozen=True, slots=True)
class _Collected:
    """What `generate_latest` asks of a registry."""

    found: list[Metric]

    def collect(self) -> list[Metric]:
        return self.found


def write(path: Path, status: Status) -> None:
    """Write the file for node_exporter's textfile collector, whole or not at all, and readable by everyone. Raises
    `OSError`."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(render(status))
    new.chmod(0o644)
    new.replace(path)
