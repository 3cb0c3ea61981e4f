"""What a node's figures say in shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bt_selfsecure.node.api_types import Key


def burst_loss(key: Key) -> float:
    """Share of the burst that did not reach the responder."""
    return 1 - key["received"] / key["sent"] if key["sent"] else 0.0
