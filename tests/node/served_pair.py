"""Alice and Bob as real nodes with their local APIs, joined by a bearer in memory."""

from __future__ import annotations

from loopback_node import Server
from test_api import wait_until

from bt_selfsecure.bearers.base import Bearer
from bt_selfsecure.bearers.memory import MemoryAir
from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.node.config import Config, DiscoveryTable, EstablishTable, NodeTable, PeerTable, SessionTable
from bt_selfsecure.node.service import Node

ADDRESSES = {"alice": "B8:27:EB:00:00:01", "bob": "B8:27:EB:00:00:02"}


class Media:
    """One device's bearers, whatever they are called."""

    def __init__(self, air: MemoryAir, address: str) -> None:
        self._air, self._address = air, address

    def open(self, name: str) -> Bearer:
        return self._air.bearer(self._address)


class Pair:
    """Alice and Bob with their local APIs, on the event loop of `server`."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.air = MemoryAir()
        self.nodes: dict[str, Node] = {}
        self.clients = {name: NodeClient(server.socket(name)) for name in ADDRESSES}

    def start(self, name: str) -> None:
        self.nodes[name] = self.server.wait(self._started(name))

    async def _started(self, name: str) -> Node:
        (other,) = ADDRESSES.keys() - {name}
        config = Config(
            node=NodeTable(
                name=name, state_directory=self.server.folder / f"{name}.state", socket=self.server.socket(name)
            ),
            establish=EstablishTable(bearer="rfcomm", interval_ms=0.1),
            session=SessionTable(timeout_ms=50),
            discovery=DiscoveryTable(advertise=False, scan=False),
            peer=(PeerTable(other, ADDRESSES[other]),),
        )
        node = Node(config, Media(self.air, ADDRESSES[name]), ADDRESSES[name])
        await node.start()
        return node

    def stop(self, name: str) -> None:
        self.server.wait(self.nodes.pop(name).stop())

    def wait_for_key(self) -> None:
        for client in self.clients.values():
            wait_until(lambda client=client: client.peers()[0]["key"])
