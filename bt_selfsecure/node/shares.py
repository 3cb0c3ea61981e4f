"""What a node's figures say in shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bt_selfsecure.node.api_peer_types import Key


def burst_loss(key: Key) -> float:
    """Return the share of the burst, 0 to 1, that did not reach the responder."""
    return 1 - key["received"] / key["sent"] if key["sent"] else 0.0
