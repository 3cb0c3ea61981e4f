"""The node on this computer as a device of an IoT network: how its keys, peers and alarms are, and never a key.

bt-selfsecure device run bt_selfsecure.iot.device.local_node
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.node.metrics import PREFIX
from bt_selfsecure.node.where import SOCKET, find_path, find_socket
from bt_selfsecure.protocols.iotcrypto.transmission_messages import Measured

OF_STATUS: Final = ("healthy", "problems", "peers", "connected", "least_secret_bits", "most_burst_loss", "refused_keys")
OF_METRICS: Final = (
    *("uptime_seconds", "rounds_total", "data_frames_total", "retransmissions_total", "resynchronisations_total"),
    *("establishments_total", "failed_establishments_total", "rejected_frames_total", "keys_from_nowhere_total"),
    *("links_total", "dropped_total", "queued_messages", "journal_commit_slowest_seconds"),
)
"""Of /v1/metrics, each summed over peers and what else it is told apart by."""
SENSORS: Final = OF_STATUS + OF_METRICS
FRESH_S: Final = 0.5
"""What was asked for one sensor is good for the next."""

_told: set[str] = set()
_kept: dict[str, tuple[float, Any]] = {}


def _asked(what: str) -> Any:
    """Return what the node says to `status` or `metrics` now."""
    at, answer = _kept.get(what, (0.0, None))
    if answer is None or time.monotonic() - at > FRESH_S:
        client = NodeClient(find_socket(str(find_path(None))) or SOCKET)
        try:
            answer = getattr(client, what)()
        finally:
            client.close()
        _kept[what] = time.monotonic(), answer
    return answer


def read_sensor(name: str) -> Measured:
    return _of_metrics(name) if name in OF_METRICS else _of_status(name)


def _of_metrics(name: str) -> Measured:
    """Return the sum of a figure's samples; None where it has none."""
    from prometheus_client.parser import text_string_to_metric_families

    samples = [
        sample.value
        for family in text_string_to_metric_families(_asked("metrics"))
        for sample in family.samples
        if sample.name == PREFIX + name
    ]
    return sum(samples) if samples else None


def _of_status(name: str) -> Measured:
    status = _asked("status")
    peers = status["peers"]
    keys = [peer["key"] for peer in peers if peer["key"]]
    match name:
        case "healthy":
            return bool(status["healthy"])
        case "problems":
            return len(status["problems"])
        case "peers":
            return len(peers)
        case "connected":
            return len([peer for peer in peers if peer["state"] == "connected"])
        case "least_secret_bits":
            return min((float(key["secret_bits"]) for key in keys), default=None)
        case "most_burst_loss":
            return max((1 - float(key["received"]) / float(key["sent"]) for key in keys if key["sent"]), default=None)
        case "refused_keys":
            return sum(int(peer["trust"]["refused"]) for peer in peers)
    return None


def alerts() -> Iterator[str]:
    """Tell each problem of the node's once, and again if it comes back."""
    problems = {*map(str, _asked("status")["problems"])}
    yield from sorted(problems - _told)
    _told.clear()
    _told.update(problems)
