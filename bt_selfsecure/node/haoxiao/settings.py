"""What Hao and Xiao's peers take from the node's configuration, in the terms of their machines."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from bt_selfsecure.bearers.limits import FLUSHABLE_BYTES, UDP_FRAME_BYTES
from bt_selfsecure.node.config import Config, PeerTable, address_bytes, authentication_key
from bt_selfsecure.node.haoxiao.endpoint_config import OTHER_INTERVAL_MS, establish_config, session_config
from bt_selfsecure.node.haoxiao.peer_events import PeerConfig
from bt_selfsecure.node.media import bearer_name, no_radio
from bt_selfsecure.node.via import groups
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.relay import RELAYED_BURST, RELAYED_TIMERS
from bt_selfsecure.protocols.haoxiao.relay_frames import MAX_DATAGRAM_BYTES
from bt_selfsecure.protocols.haoxiao.session_config import Durability
from bt_selfsecure.protocols.haoxiao.suites import SUITES

RELAY: Final = "relay"
"""Bearer of peers that are reached through others."""
FRAME_BYTES: Final = {
    "l2cap": FLUSHABLE_BYTES,
    "ipsp": UDP_FRAME_BYTES,
    "udp": UDP_FRAME_BYTES,
    RELAY: MAX_DATAGRAM_BYTES,
}
"""Longest frame of a session by bearer: one baseband packet, one IPv6 packet. Elsewhere the core's own limit rules."""
HEARS_ALL: Final = "a relay hears the whole burst"
PROFILES: Final[Mapping[int, str]] = {profile.value: profile.label for profile in Profile}
"""Names of the profiles, by the number that a node advertises."""


class Settings:
    """Reads the settings of one node's configuration. Raises `UsageError` for one that can't be used."""

    def __init__(self, config: Config, keyless: Container[str] = ()) -> None:
        """`keyless` are addresses of peers whose keys are lost: nobody proves himself as one of these any more."""
        self._config = config
        self._keys = {
            peer.address: os.urandom(limits.KEY_BYTES) if peer.address in keyless else authentication_key(peer)
            for peer in config.peer
        }
        self._bootstrapped = {peer.address for peer in config.peer if peer.bootstrapped}
        self._session = session_config(config)
        self._establish = establish_config(config, bytes(limits.IDENTITY_BYTES))
        self.no_radio = no_radio(config)
        """Why losses of a burst hide nothing from an eavesdropper; empty where a radio carries it."""

    def set_key(self, address: str, key: bytes) -> None:
        """Use this authentication key with a peer that was not known at the start."""
        self._keys[address] = key

    def drop_key(self, address: str) -> None:
        """Use none any more, and know the peer no more."""
        self._keys.pop(address, None)

    @property
    def profile(self) -> Profile:
        """Return the cipher suite and its rules."""
        return self._establish.profile

    @property
    def durable_first(self) -> bool:
        """Return whether a message is on disk before anybody is told of it."""
        return self._session.durability is Durability.EVERY_MESSAGE

    def peer(self, name: str, address: str, dial: str) -> PeerConfig:
        """Return what the machine of this peer is configured with."""
        table = self._config.find_peer(address)
        relayed = table is not None and bool(table.via)
        return PeerConfig(
            name=name,
            identity=address_bytes(address),
            dial=dial,
            session=replace(self._session, follows_round_trip=relayed),
            session_bearer=RELAY if relayed else bearer_name(self._config.session.bearer),
            establish_bearer=RELAY if relayed else bearer_name(self._config.establish.bearer),
            no_radio=HEARS_ALL if relayed else self.no_radio,
            fragment_bytes=fragment_bytes(self._config, RELAY if relayed else ""),
            queue_messages=self._config.node.queue_messages,
            renew_hours=self._config.establish.renew_after_hours,
            renew_messages=self._config.establish.renew_after_messages,
            rests_on=partial(rests_on_relays, table) if table and relayed else self.rests_on,
            asks=address in self._keys,
            shares_authentication_key=self.is_shared(address),
            is_bootstrapped=address in self._bootstrapped,
            two_ways=table is not None and len(groups(table)) > 1,
            key_proves=bool(self._keys.get(address)) and not self.is_shared(address),
        )

    def establish(self, own: str, address: str) -> EstablishConfig:
        """Return the configuration of an establishment with the peer of this address; `own` is the node's."""
        config = replace(self._establish, identity=address_bytes(own), authentication_key=self._keys.get(address, b""))
        if (table := self._config.find_peer(address)) and table.via:
            wait = OTHER_INTERVAL_MS / 1000
            burst = replace(config, burst=RELAYED_BURST, max_burst=RELAYED_BURST, interval=wait, compact=False)
            return replace(
                burst, eve_loss_bound=1.0, timers=RELAYED_TIMERS
            )  # one packet is enough: its bits count none
        most = max(config.burst, min(config.max_burst, most_packets(self._config)))
        return replace(config, max_burst=most)

    def reckoned_bits(self, received: int, message_bytes: int) -> float:
        """Return the secret bits of so many packets, for the configured bound on an eavesdropper's loss."""
        return self._establish.reckoned_bits(received, message_bytes)

    def is_shared(self, address: str) -> bool:
        """Return whether the peer's authentication key is that of another peer, too."""
        own = self._keys.get(address, b"")
        return bool(own) and list(self._keys.values()).count(own) > 1

    def rests_on(self, losses_visible: bool, hybrid: bool, authenticated: bool) -> str:
        """Return a sentence that says on what a key's secrecy rests."""
        if self.no_radio:
            others = ["X25519"] * hybrid + ["the authentication key"] * authenticated
            alone = f"{' and '.join(others)} alone" if others else "nothing"
            return f"On {alone}: {self.no_radio}. Whoever reads the network misses nothing of what makes the key."
        text = self._rests_on(losses_visible)
        return f"{text} X25519 is mixed in: an eavesdropper must break that as well." if hybrid else text

    def _rests_on(self, losses_visible: bool) -> str:
        table = self._config.establish
        bound = f"an eavesdropper misses at least {table.eve_loss_bound:.3g} of what the responder hears"
        if losses_visible:
            return f"On losses that both ends saw, and on this (configured): {bound}."
        bearer = bearer_name(table.bearer)
        return f"On the eavesdropper's misses alone: {bearer} hides losses from the responder. Configured: {bound}."


def rests_on_relays(peer: PeerTable, losses_visible: bool, hybrid: bool, authenticated: bool) -> str:
    """Return a sentence that says on what the secrecy of a key rests whose burst has gone through others."""
    key = f"the {'bootstrapped' if peer.bootstrapped else 'authentication'} key"
    has_key = bool(peer.authentication_key_file) and authenticated
    text = f"On {' and '.join(['X25519'] * hybrid + [key] * has_key)} alone: {HEARS_ALL}."
    if has_key:
        return f"{text} Against a relay that changes frames: on {key}."
    ways = groups(peer)
    if len(ways) > 1:
        return (
            f"{text} Against relays that change frames: that those of both ways do not work together, or on the string."
        )
    return f"{text} Against a relay that changes frames: on the string, once it is compared."


def fragment_bytes(config: Config, bearer: str = "") -> int:
    """Return how many bytes the longest message of a session has that fits a frame of this bearer, or the configured
    one."""
    suite = SUITES[Profile[config.establish.profile.upper()]]
    data, _ = suite.seal(bytes(limits.KEY_BYTES), 0, 0, 0, b"", bytes)
    longest = FRAME_BYTES.get(bearer or bearer_name(config.session.bearer), limits.MAX_FRAME_BYTES)
    return min(limits.MAX_MESSAGE_BYTES, longest - len(data))


def most_packets(config: Config) -> int:
    """Return the most packets of a burst whose received set, as a bitmap, fits one frame of its bearer."""
    carrier = bearer_name(config.establish.bearer)
    if carrier == "le_advert":
        carrier = bearer_name(config.session.bearer)
    return (FRAME_BYTES[carrier] - 64) * 8 if carrier in ("ipsp", "udp") else limits.MAX_BURST
