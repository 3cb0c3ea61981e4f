"""What SBI, SBR and SBS are configured with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.bootstrap import limits

Clock = Callable[[], float]
"""Gives the time of day, in seconds since 1970. TS is made of it, and held against it; waits are not."""


@dataclass(frozen=True, slots=True)
class Controller:
    """Holds what an SBS and one of its SBR share."""

    controller_id: bytes
    """ID_c."""
    sk_cs: bytes = field(repr=False)
    domain: str = ""

    def __post_init__(self) -> None:
        """Raises `UsageError` where a value has another size."""
        if (len(self.controller_id), len(self.sk_cs)) != (limits.ID_BYTES, limits.KEY_BYTES):
            raise UsageError(f"a controller has an id of {limits.ID_BYTES} bytes and a key of {limits.KEY_BYTES}")


@dataclass(frozen=True, slots=True)
class SbrConfig:
    """Holds what an SBR, a controller, is configured with."""

    controller: Controller
    clock: Clock
    retries: int = limits.MOST_RETRIES
    """How often flight 2 or 6 is repeated."""


@dataclass(frozen=True, slots=True)
class SbsConfig:
    """Holds what an SBS, a server, is configured with."""

    controllers: Mapping[bytes, Controller]
    """By ID_c. Looked up at each flight."""
    clock: Clock
    window_s: float = limits.WINDOW_S
    """By so many seconds a controller's clock may differ."""
    lifetime_s: float = limits.LIFETIME_S
    """Of a PSK, in seconds."""
