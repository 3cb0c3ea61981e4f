"""Keys from the packets that the radio loses: agree on one, and talk under it, over any transport that is yours.

These names are for other programs, and docs/api.md explains them; what is not among them may change at any time. Each
is imported when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

__version__ = "0.1.0"
__all__ = [
    "BtSelfSecureError",
    "Durability",
    "EndpointContext",
    "EstablishConfig",
    "Initiator",
    "NodeClient",
    "Profile",
    "Responder",
    "Role",
    "Session",
    "SessionConfig",
    "SessionRecord",
    "Timers",
    "events",
    "losses",
]

if TYPE_CHECKING:
    from bt_selfsecure.errors import BtSelfSecureError
    from bt_selfsecure.node.client import NodeClient
    from bt_selfsecure.protocols.haoxiao import events
    from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig, Timers
    from bt_selfsecure.protocols.haoxiao.frames import Profile
    from bt_selfsecure.protocols.haoxiao.initiator import Initiator
    from bt_selfsecure.protocols.haoxiao.record import Role, SessionRecord
    from bt_selfsecure.protocols.haoxiao.responder import Responder
    from bt_selfsecure.protocols.haoxiao.session import Session
    from bt_selfsecure.protocols.haoxiao.session_config import Durability, SessionConfig
    from bt_selfsecure.sansio.context import EndpointContext
    from bt_selfsecure.stats import losses

_HAOXIAO: Final = "bt_selfsecure.protocols.haoxiao"
_MODULES: Final = {
    "BtSelfSecureError": "bt_selfsecure.errors",
    "Durability": f"{_HAOXIAO}.session_config",
    "EndpointContext": "bt_selfsecure.sansio.context",
    "EstablishConfig": f"{_HAOXIAO}.establish",
    "Initiator": f"{_HAOXIAO}.initiator",
    "NodeClient": "bt_selfsecure.node.client",
    "Profile": f"{_HAOXIAO}.frames",
    "Responder": f"{_HAOXIAO}.responder",
    "Role": f"{_HAOXIAO}.record",
    "Session": f"{_HAOXIAO}.session",
    "SessionConfig": f"{_HAOXIAO}.session_config",
    "SessionRecord": f"{_HAOXIAO}.record",
    "Timers": f"{_HAOXIAO}.establish",
    "events": _HAOXIAO,
    "losses": "bt_selfsecure.stats",
}
"""Where each name comes from."""


def __getattr__(name: str) -> Any:
    """Import what is asked for, and keep it (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = _MODULES[name]
    value = import_module(f"{place}.{name}") if name.islower() else getattr(import_module(place), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
