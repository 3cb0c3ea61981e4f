"""What happened, counted: per peer since the node began with it, and all of it in Prometheus's text format.

    # HELP bt_selfsecure_rounds_total Messages' rounds that were acknowledged ...
    # TYPE bt_selfsecure_rounds_total counter
    bt_selfsecure_rounds_total{peer="bob",direction="out"} 1204

Made from the status alone (as `Status` in openapi.py), so it can show no secret. Counters begin at 0 with the daemon,
as Prometheus expects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "bt_selfsecure_"

Sample = tuple[dict[str, str], float]
Read = Callable[[dict[str, Any]], Iterator[Sample]]
"""The samples of one metric, from a status."""


@dataclass(slots=True)
class Counts:
    """Of one peer; as `Counts` in openapi.py."""

    rounds_out: int = 0
    rounds_in: int = 0
    frames: int = 0
    retransmissions: int = 0
    resynchronisations: int = 0
    establishments: int = 0
    failed_establishments: int = 0
    links: int = 0
    dropped: int = 0


def burst_loss(key: dict[str, Any]) -> float:
    """Share of the burst that did not reach the responder."""
    return 1 - key["received"] / key["sent"] if key["sent"] else 0.0


def _of_peers(read: Callable[[dict[str, Any]], float | None]) -> Read:
    """One sample a peer, where there is one to read."""

    def samples(status: dict[str, Any]) -> Iterator[Sample]:
        for peer in status["peers"]:
            if (value := read(peer)) is not None:
                yield {"peer": peer["name"]}, value

    return samples


def _of_keys(read: Callable[[dict[str, Any]], float | None]) -> Read:
    return _of_peers(lambda peer: read(peer["key"]) if peer["key"] else None)


def _of_node(read: Callable[[dict[str, Any]], float]) -> Read:
    return lambda status: iter([({}, read(status))])


def _two_ways(table: str, out: str, into: str) -> Read:
    """Two figures of a table in each peer's status."""

    def samples(status: dict[str, Any]) -> Iterator[Sample]:
        for peer in status["peers"]:
            for direction, figure in (("out", out), ("in", into)):
                yield {"peer": peer["name"], "direction": direction}, peer[table][figure]

    return samples


def _counted(figure: str) -> Read:
    return _of_peers(lambda peer: peer["counts"][figure])


def _rejections(status: dict[str, Any]) -> Iterator[Sample]:
    for peer in status["peers"]:
        for reason, count in peer["rejections"].items():
            yield {"peer": peer["name"], "reason": reason}, count


def _build(status: dict[str, Any]) -> Iterator[Sample]:
    yield {"version": status["version"]}, 1


METRICS: Final[tuple[tuple[str, str, str, Read], ...]] = (
    ("build_info", "gauge", "The program's version; always 1.", _build),
    ("healthy", "gauge", "1 if the node has no problem.", _of_node(lambda status: status["healthy"])),
    ("uptime_seconds", "gauge", "Since the node started.", _of_node(lambda status: status["uptime_s"])),
    ("connected", "gauge", "1 while the peer is connected.", _of_peers(lambda peer: peer["state"] == "connected")),
    (
        "rounds_total",
        "counter",
        "Rounds that were completed: acknowledged (out), accepted (in).",
        _two_ways("counts", "rounds_out", "rounds_in"),
    ),
    ("data_frames_total", "counter", "Data frames sent.", _counted("frames")),
    (
        "retransmissions_total",
        "counter",
        "Data frames sent again; divided by data_frames_total: the share of attempts or acknowledgements lost.",
        _counted("retransmissions"),
    ),
    (
        "resynchronisations_total",
        "counter",
        "Times that a direction went on from a common checkpoint.",
        _counted("resynchronisations"),
    ),
    (
        "establishments_total",
        "counter",
        "Keys that were agreed on.",
        _counted("establishments"),
    ),
    (
        "failed_establishments_total",
        "counter",
        "Establishments that ended without a key.",
        _counted("failed_establishments"),
    ),
    ("links_total", "counter", "Links that were opened.", _counted("links")),
    (
        "dropped_total",
        "counter",
        "Messages found damaged on the disk and dropped, or perhaps under way in a session that was.",
        _counted("dropped"),
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
        _two_ways("queues", "outbox", "inbox"),
    ),
    (
        "journal_commit_seconds_count",
        "counter",
        "Commits to the disk.",
        _of_node(lambda status: status["journal"]["commits"]),
    ),
    (
        "journal_commit_seconds_sum",
        "counter",
        "Time that they took; divided by their number: the mean latency of the disk.",
        _of_node(lambda status: status["journal"]["seconds"]),
    ),
    (
        "journal_commit_slowest_seconds",
        "gauge",
        "The slowest of them.",
        _of_node(lambda status: status["journal"]["slowest_s"]),
    ),
)
"""Name without prefix, type, help, and what reads its samples from a status."""


def render(status: dict[str, Any]) -> str:
    """The exposition, text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats)."""
    lines = []
    for name, kind, doc, read in METRICS:
        lines += [f"# HELP {PREFIX}{name} {doc}", f"# TYPE {PREFIX}{name} {kind}"]
        lines += [f"{PREFIX}{name}{_labels(labels)} {float(value)!r}" for labels, value in read(status)]
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, str]) -> str:
    quoted = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(quoted) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def write(path: Path, status: dict[str, Any]) -> None:
    """For node_exporter's textfile collector: whole or not at all, and readable by everyone. Raises `OSError`."""
    new = path.with_name(path.name + ".new")
    new.write_text(render(status))
    new.chmod(0o644)
    new.replace(path)
