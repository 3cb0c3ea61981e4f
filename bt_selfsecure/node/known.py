"""Whom a node knows, by device address: the [[peer]] tables, and who was paired, before its start or since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from bt_selfsecure.bearers.places import UdpPlaces
from bt_selfsecure.node.config import Config, PeerTable


class KnownPeers(Mapping[str, PeerTable]):
    """Holds the tables of all peers; bearers, queues and discovery look at it whenever they need it."""

    def __init__(self, config: Config) -> None:
        self._config: Final = config
        self._tables = {peer.address: peer for peer in config.peer}
        self._places = {peer.address: peer.udp for peer in config.peer if peer.udp}
        self._called: set[str] = set()
        self.is_pairing = False
        """Anybody may dial, to be paired; what is no pairing of his is not listened to."""

    def __getitem__(self, address: str) -> PeerTable:
        return self._tables[address]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def add(self, table: PeerTable) -> None:
        """Know another one from now on."""
        self._tables[table.address] = table
        if table.udp:
            self._places[table.address] = table.udp

    def remove(self, address: str) -> None:
        """Know this one no more. KeyError for one that is not known."""
        del self._tables[address]
        self._places.pop(address, None)

    def call(self, address: str, place: str) -> None:
        """Take note that a device is dialled to be paired, and where it listens on udp."""
        self._called.add(address)
        if place and address not in self:
            self._places[address] = place

    def end_call(self, address: str) -> None:
        """Take that back; a device that is known by now stays so."""
        self._called.discard(address)
        if address not in self:
            self._places.pop(address, None)

    def may_bond(self, address: str) -> bool:
        """Return whether the radio may pair with this device."""
        return self.admits_strangers or address in self.direct or address in self._called

    @property
    def awaits_strangers(self) -> bool:
        """Return whether one may have to, that is no peer yet."""
        return self.admits_strangers or bool(self._called)

    def named(self, name: str) -> PeerTable | None:
        """Return the peer of this name, if there is one."""
        return next((table for table in self.values() if table.name == name), None)

    @property
    def direct(self) -> set[str]:
        """Return the addresses of those that are not reached through others."""
        return {address for address, table in self.items() if not table.via}

    @property
    def admits_strangers(self) -> bool:
        """Return whether others than those may have a link."""
        return self._config.node.accept == "anyone" or self.is_pairing

    def udp_places(self, own: str) -> UdpPlaces:
        """Return what `open_bearer` takes for udp; `own` is the device address. It stays as this does."""
        return UdpPlaces(own, self._config.udp.listen, self._places, lambda: self.admits_strangers)
