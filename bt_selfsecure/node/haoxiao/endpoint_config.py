"""What the endpoints of Hao and Xiao's protocol take from the node's configuration.

Every command that reads a configuration checks it by these, also on a Pi Zero: so no more is imported than they need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bt_selfsecure.bearers.specs import parse_spec
from bt_selfsecure.node.config import Config
from bt_selfsecure.protocols.haoxiao.establish import ANYBODY, EstablishConfig
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.session_config import Durability, SessionConfig

INTERVAL_MS: Final[Mapping[str, float]] = {"le_advert": 30.0, "l2cap": 10.0}
"""Default time between two burst packets, by bearer; a controller advertises at most every 20 to 30 ms."""
OTHER_INTERVAL_MS: Final = 5.0
MAX_REQUESTS: Final = 20
"""Of one establishment, a second apart: more than T_d, within which a responder ignores a second wish of one peer."""


def establish_config(config: Config, identity: bytes, authentication_key: bytes = b"") -> EstablishConfig:
    """Return what the endpoints take; `identity` is the own device address, 6 bytes. Raises `UsageError`."""
    table = config.establish
    name = parse_spec(table.bearer).name
    peers = {peer.identity for peer in config.peer}
    return EstablishConfig(
        identity,
        profile=Profile[table.profile.upper()],
        burst=table.burst,
        max_burst=table.max_burst,
        max_requests=MAX_REQUESTS,
        interval=(table.interval_ms or INTERVAL_MS.get(name, OTHER_INTERVAL_MS)) / 1000,
        target_bits=table.target_bits,
        eve_loss_bound=table.eve_loss_bound,
        compact=name == "le_advert",
        exchange_shares=table.exchange_shares,
        authentication_key=authentication_key,
        compare=True,
        admit=ANYBODY if config.node.accept == "anyone" else peers.__contains__,
    )


def session_config(config: Config) -> SessionConfig:
    """Return what the sessions take. Raises `UsageError`."""
    table = config.session
    return SessionConfig(
        Durability(table.durability), table.checkpoint_rounds, table.omega, table.timeout_ms / 1000, table.max_timeout_s
    )
