"""Who is reached through whom, and whom this node forwards for, as it is configured."""

from __future__ import annotations

from bt_selfsecure.addresses import is_address, spelled
from bt_selfsecure.node.config import Config, PeerTable
from bt_selfsecure.node.tables import Origin


def neighbours(config: Config) -> list[PeerTable]:
    """Return the peers that the node speaks with directly."""
    return [peer for peer in config.peer if not peer.via]


def relayed(config: Config) -> list[PeerTable]:
    """Return those that are reached through others."""
    return [peer for peer in config.peer if peer.via]


def groups(peer: PeerTable) -> tuple[tuple[str, ...], ...]:
    """Return the names of the relays of each way to a peer: one way or two; of "auto" one, that names nobody."""
    if isinstance(peer.via, str):
        return ((),)
    return peer.via if isinstance(peer.via[0], tuple) else (peer.via,)


def addresses_of(config: Config, names: tuple[str, ...]) -> list[str]:
    """Return the device addresses of peers, which are named, or of anybody by address."""
    return [peer.address if (peer := config.find_peer(name)) else spelled(name) for name in names]


def check_relay(config: Config, origin: Origin) -> None:
    """Check the ways to peers, and whom the node forwards for. Raises `UsageError`."""
    for number, peer in enumerate(config.peer):
        if peer.via:
            _check_via(config, origin, number, peer)
    for index, name in enumerate(config.relay.for_):
        place = ("relay", "for", index)
        if not is_address(name) and not any(peer.name == name for peer in config.peer):
            origin.fail(place, "is no [[peer]]: add one, or write the device address of an end that is no peer here")
    if config.relay.for_ and len(set(addresses_of(config, config.relay.for_))) < 2:
        origin.fail(("relay", "for"), "names one end: it takes two to send each other something")


def _check_via(config: Config, origin: Origin, number: int, peer: PeerTable) -> None:
    place = ("peer", number, "via")
    direct = {each.name for each in neighbours(config)}
    for name in (name for group in groups(peer) for name in group):
        if name == peer.name:
            origin.fail(place, "is the peer itself: name one that both ends hear")
        if name not in direct:
            known = name in {each.name for each in config.peer}
            what = "is itself reached through others" if known else "is no [[peer]]"
            origin.fail(place, f"names {name}, which {what}: name one that this node hears")
    if not direct:
        origin.fail(place, "needs another [[peer]] without via, which it leads through")
    if config.establish.profile == "paper":
        origin.fail(place, 'needs profile = "hardened": in "paper" whoever relays the burst knows the key')
    if not config.establish.exchange_shares and not peer.authentication_key_file:
        origin.fail(
            place,
            "needs [establish] exchange_shares = true or an authentication_key_file: whoever relays the burst knows "
            "the key else",
        )
