"""`bt-selfsecure doctor` beside a running node."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from loopback_node import Server
from served_pair import ADDRESSES, Media

from bt_selfsecure.bearers.memory import MemoryAir
from bt_selfsecure.node.config import Config, DiscoveryTable, NodeTable
from bt_selfsecure.node.service import Node


@pytest.mark.parametrize(("words", "adapter"), [((), "hci98"), (("--adapter", "hci99"), "hci99")])
def test_the_doctor_looks_at_the_adapter_that_the_running_node_has_whatever_its_name_was_before(
    server: Server, words: tuple[str, ...], adapter: str
) -> None:
    """The kernel gives names as adapters come, and the node follows its own: what has the old name is another one."""
    table = NodeTable(
        name="alice", adapter="hci98", state_directory=server.folder / "state", socket=server.socket("alice")
    )
    config = Config(node=table, discovery=DiscoveryTable(advertise=False, scan=False))

    async def started() -> Node:
        node = Node(config, Media(MemoryAir(), ADDRESSES["alice"]), ADDRESSES["alice"])
        await node.start()
        return node

    file = server.folder / "node.toml"
    file.write_text(f'[node]\nadapter = "hci0"\nsocket = "{server.socket("alice")}"\n')
    command = [sys.executable, "-m", "bt_selfsecure", "doctor", "--config", str(file), "--json", *words]
    node = server.wait(started())
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        server.wait(node.stop())
    assert json.loads(said.stdout)["adapter"] == adapter, said.stderr
