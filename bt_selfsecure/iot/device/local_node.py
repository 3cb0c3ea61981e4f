"""The node on this computer as a device of an IoT network: how its keys, peers and alarms are, and never a key.

bt-selfsecure device run bt_selfsecure.iot.device.local_node
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.node.where import SOCKET, find_path, find_socket
from bt_selfsecure.protocols.iotcrypto.transmission_messages import Measured

SENSORS: Final = ("healthy", "problems", "peers", "connected", "least_secret_bits", "most_burst_loss", "refused_keys")

_told: set[str] = set()


def _status() -> dict[str, Any]:
    client = NodeClient(find_socket(str(find_path(None))) or SOCKET)
    try:
        return client.status()
    finally:
        client.close()


def read_sensor(name: str) -> Measured:
    status = _status()
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
    problems = {*map(str, _status()["problems"])}
    yield from sorted(problems - _told)
    _told.clear()
    _told.update(problems)
