"""What is told of a key that was agreed on, as `Key` in api_peer_types.py has it beside its age: never the key."""

from __future__ import annotations

from typing import Any

from bt_selfsecure.node.haoxiao.peer_events import PeerConfig
from bt_selfsecure.protocols.haoxiao.events import Established, Independence


def key_facts(
    event: Established, config: PeerConfig, own: str, losses_visible: bool, others: list[Independence]
) -> dict[str, Any]:
    """Return the facts. `own` is the address of this node; `others` say what the other peers of one burst missed."""
    return {
        "fingerprint": event.fingerprint,
        "secret_bits": 0.0 if config.no_radio else event.secret_bits,
        "target_bits": event.target_bits,
        "sent": event.sent,
        "received": len(event.received),
        "sas": str(event.sas) if event.sas else "",
        "authenticated": event.authenticated and config.key_proves,
        "continuity": event.continuity,
        "hybrid": event.hybrid,
        "bearer": config.establish_bearer,
        "own_address": own,
        "rests_on": config.rests_on(losses_visible, event.hybrid, event.authenticated),
        "shared": [{"peer": other.j.hex(":").upper(), "missed": other.missed_by_j} for other in others],
    }
