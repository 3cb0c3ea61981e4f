"""What an endpoint is given of the world around it, the same for every protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bt_selfsecure.sansio.trace import KeyLog, Tracer

Random = Callable[[int], bytes]
"""`random(n)` gives n unpredictable bytes; an endpoint has no other source of them."""


@dataclass(frozen=True, slots=True)
class EndpointContext:
    """Says where an endpoint takes its random bytes from, and where it tells what it does."""

    random: Random
    tracer: Tracer | None = None
    """Takes each transition, without secrets."""
    key_log: KeyLog | None = None
    """Takes each key. Only for who wants to read along."""
    name: str = "endpoint"
    """Names the endpoint in its trace and in errors."""
