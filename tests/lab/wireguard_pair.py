"""WireGuard of the machines' kernels, over 6LoWPAN over Bluetooth LE, its preshared key from two real nodes."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from typing import Any

from lab_nodes import Nodes
from link_up import begin, wait_for

from bt_selfsecure.node.two_nodes import OTHER

INSIDE = {"alice": "10.99.0.1", "bob": "10.99.0.2"}
PORT = 51820
MTU = 1200
"""What fits a packet of IPv6's least MTU, which 6LoWPAN has, beside the 80 bytes of IPv6, UDP and WireGuard."""
WITHIN_S = 60.0
PING_S = 0.2


def until(is_so: Callable[[], Any], seconds: float = WITHIN_S) -> Any:
    end = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < end
        time.sleep(0.3)
    return found


class WireGuardOnMachines:
    """alice and bob, with a session, an IP link of their own, and an interface of WireGuard on it."""

    def __init__(self, nodes: Nodes) -> None:
        """Raises `LabError` where a kernel has no WireGuard."""
        self.nodes, self.lab = nodes, nodes.lab
        self.public: dict[str, str] = {}
        for name, inside in INSIDE.items():
            self.public[name] = self.lab.run(
                name,
                "ip link del wg0 2>/dev/null; umask 077; wg genkey >/run/lab/wg.key\n"
                f"ip link add wg0 mtu {MTU} type wireguard && ip addr add {inside}/24 dev wg0\n"
                "wg pubkey </run/lab/wg.key",
            ).check().strip()  # fmt: skip
        begin(self.lab, "bob", "")
        begin(self.lab, "alice", self.lab.address("bob"))
        for name, other in OTHER.items():
            (there,) = wait_for(self.lab, name, lambda state: bool(state["answered"]))["answered"]
            self.lab.run(
                name,
                f"wg set wg0 listen-port {PORT} private-key /run/lab/wg.key peer {self.public[other]} "
                f"allowed-ips {INSIDE[other]}/32 endpoint '[{there}]:{PORT}' && ip link set wg0 up",
            ).check()

    def watch(self, name: str, *words: str) -> None:
        """Hand the session's keys to WireGuard on this machine from now on."""
        public = self.public[OTHER[name]]
        command = f"bt-selfsecure key watch {OTHER[name]} --wireguard wg0 --public-key {public} {' '.join(words)}"
        self.lab.run(name, f"setsid {command} --json >/lab/watch.json 2>/lab/watch.log </dev/null & echo").check()

    def told(self, name: str) -> list[dict[str, Any]]:
        """Return the events that were told there."""
        file = self.lab.shared[name] / "watch.json"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def generations(self, name: str) -> list[str]:
        return [event["generation"] for event in self.told(name) if event["event"] == "key"]

    def preshared(self, name: str) -> str:
        return self.lab.run(name, "wg show wg0 preshared-keys").check().split()[-1]

    def share_a_key(self) -> bool:
        one, other = (self.preshared(name) for name in OTHER)
        return one == other != "(none)"

    def ping(self, seconds: float, patience_s: float = 5) -> tuple[int, int]:
        """How many were sent, and how many of them were answered within `patience_s` of the last."""
        count = max(1, round(seconds / PING_S))
        said = self.lab.run(
            "alice", f"ping -q -i {PING_S} -c {count} -W {patience_s} {INSIDE['bob']}", seconds + WITHIN_S
        ).out
        found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        assert found, said
        return int(found[1]), int(found[2])

    def forget_handshake(self) -> None:
        """Have alice's kernel forget the keys in use: what it sends next takes a handshake with the preshared key."""
        self.lab.run("alice", "ip link set wg0 down && ip link set wg0 up").check()

    def end(self) -> None:
        self.lab.run_on_all(
            "for what in 'key watch' 'link up'; do pkill -INT -f \"$what\" || true; done; ip link del wg0 || true\n"
            "rm -f /lab/watch.json /lab/watch.log"
        )
        self.nodes.end()


def absent() -> str:
    """Why there can be no WireGuard here; empty where there can."""
    return "" if shutil.which("wg") else "wg is not installed (apt-get install wireguard-tools)"
