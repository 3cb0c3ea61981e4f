"""What a round of stop-and-wait costs against a plain echo on the same RFCOMM link, on a CPU that is not emulated.

The link is virtual Bluetooth's in real time: Bumble's host stacks, and an air that takes the slots a radio takes. Both
nodes and both stacks share one CPU here, so this is more than what two Pis add to a round, each on its own.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping
from pathlib import Path

from rounds_on_machines import BareDisk, OneLink, SharedLink, measure, node_config

from bt_selfsecure.air.bluetooth import VirtualBluetooth
from bt_selfsecure.node.service import Node
from bt_selfsecure.protocols.haoxiao.record import Role

SLOWER_AT_MOST = 0.15
"""Of the protocol alone, and with the node's queues, its journal on disk and its accounts of it all, at both ends."""
BLOCKS = 25


async def rounds(folder: Path) -> Mapping[str, list[float]]:
    """Seconds of each round, by way."""
    async with VirtualBluetooth("rfcomm", lambda sender, listeners, now: frozenset(listeners), {}) as bluetooth:
        links, nodes = {}, {}
        for own, peer, role in (("alice", "bob", Role.INITIATOR), ("bob", "alice", Role.RESPONDER)):
            links[own] = SharedLink(bluetooth.link(own), role, BareDisk(folder / f"{own} bare"))
            config = node_config(own, peer, links[own].peer, "every-W", folder / own)
            nodes[own] = Node(config, OneLink(links[own]), bluetooth.link(peer).peer)
            await nodes[own].start()
        try:
            while nodes["alice"].peers()[0]["state"] != "connected":
                await asyncio.sleep(0.1)
            return await measure(nodes["alice"], "bob", links["alice"], BLOCKS)
        finally:
            for node in nodes.values():
                await node.stop()


def test_a_round_takes_little_more_than_an_echo(tmp_path: Path) -> None:
    """In `every-W`; `every-message`, the default, waits for the disk twice, which may take any time."""
    seconds = asyncio.run(rounds(tmp_path))
    median = {way: statistics.median(times) for way, times in seconds.items()}
    slower = {way: time / median["echo"] - 1 for way, time in median.items()}
    print()
    for way, time in median.items():
        print(f"{way:8} {1000 * time:6.2f} ms, {1 / time:5.1f} rounds a second, {slower[way]:+.1%}")
    assert max(slower["session"], slower["node"]) <= SLOWER_AT_MOST
