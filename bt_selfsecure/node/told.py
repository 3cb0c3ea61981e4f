"""What the local API is told of one peer, beside what its protocol knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from bt_selfsecure.node import ages, api_peer_types
from bt_selfsecure.node.peer import NodePeer


def peer_status(
    peer: NodePeer, rssi: int | None, queues: api_peer_types.Queues, name_of: Callable[[str], str]
) -> api_peer_types.Peer:
    """Return it all; `name_of` gives an address's name."""
    status, silent = peer.status(), peer.silent_s
    if link := status["link"]:
        status["link"] = link | {way: list(map(name_of, link[way])) for way in ("path", "second_path")}
    told = status | {
        "queues": queues,
        "counts": peer.counts.told(),
        "rssi": rssi,
        "silent_s": silent,
        "last_seen": ages.told(silent)["since"],
    }
    return cast(api_peer_types.Peer, told)


def why_no_key(peer: NodePeer) -> str:
    """Return in a sentence why the peer has no key for other programs yet."""
    name = peer.name
    if not peer.has_key:
        return f"there is no key with {name} yet, so none for other programs: see bt-selfsecure status"
    if not peer.link_count:
        return f"{name} is not connected, so the two ends can't agree on a generation of keys: see status"
    return (
        f"{name} holds no such generation yet. A key that was agreed on by an older version has none: "
        f"bt-selfsecure establish {name}"
    )
