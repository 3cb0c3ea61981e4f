"""Several real daemons on this computer, over UDP, each configured with its neighbours alone: some relay for others."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from two_daemons import QuickNodes, wait_until

from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.node.config_file import load

NAMES = ("alice", "bob", "carol", "dave", "erin")
ADDRESSES = {name: f"02:00:00:00:00:{number:02X}" for number, name in enumerate(NAMES, 1)}
HEAD = """\
[node]
name = "{name}"
address = "{address}"
state_directory = "{folder}/{name}"
socket = "{folder}/{name}.sock"
[establish]
bearer = "udp"
interval_ms = 1
target_bits = 1
burst = 100
[session]
bearer = "udp"
timeout_ms = 50
[udp]
listen = "{place}"
"""
NEIGHBOUR = '[[peer]]\nname = "{name}"\naddress = "{address}"\nudp = "{place}"\n'


class RelayNodes(QuickNodes):
    """`near` says whom each hears; `via` the ways of an end to another, as they are written; `more` is added to a
    configuration."""

    def __init__(
        self,
        folder: Path,
        host: str,
        near: Mapping[str, Sequence[str]],
        via: Mapping[tuple[str, str], str],
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        ports = free_ports(host, len(near))
        places = {name: f"{host}:{port}" for name, port in zip(near, ports, strict=True)}
        for name, others in near.items():
            text = HEAD.format(name=name, address=ADDRESSES[name], folder=self.folder, place=places[name])
            if not any(name in pair for pair in via):
                ends = sorted({ADDRESSES[end] for pair in via for end in pair})
                text += f"[relay]\nfor = {ends}\n".replace("'", '"')
            for other in others:
                text += NEIGHBOUR.format(name=other, address=ADDRESSES[other], place=places[other])
            for (end, peer), way in via.items():
                if end == name:
                    text += f'[[peer]]\nname = "{peer}"\naddress = "{ADDRESSES[peer]}"\nvia = {way}\n'
            (self.folder / name).mkdir(mode=0o700)
            self.config(name).write_text(text + (more or {}).get(name, ""))
        self._clients = {name: NodeClient(load(self.config(name)).config.node.socket) for name in near}

    def peer(self, name: str, other: str) -> dict[str, Any]:
        return next(peer for peer in self.client(name).peers() if peer["name"] == other)

    def wait_connected(self, name: str, other: str, seconds: float = 60.0) -> None:
        wait_until(lambda: self.peer(name, other)["state"] == "connected", seconds)
