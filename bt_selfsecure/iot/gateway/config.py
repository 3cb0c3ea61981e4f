"""The gateway's configuration: each key declared once, with its default, its range and what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bt_selfsecure.iot.configured import HOST, PORT, PROFILE, default_tables, read_tables, render_tables
from bt_selfsecure.node.config import (
    ABSOLUTE,
    LOG_LEVELS,
    PLACE_OR_NONE,
    SOCKET_PATH,
    about,
    between,
    key,
    one_of,
)
from bt_selfsecure.node.tables import Origin

DEFAULT_PATH: Final = Path("/etc/bt-selfsecure/gateway.toml")
STATE: Final = Path("/var/lib/bt-selfsecure-iot")
SOCKET: Final = Path("/run/bt-selfsecure-gateway/gateway.sock")


@dataclass(frozen=True, slots=True)
class GatewayTable:
    """Sets up the gateway itself."""

    state: Path = field(
        default=STATE,
        metadata=about("Folder with key, certificate, owner, network and lists, and with its store.", ABSOLUTE),
    )
    socket: Path = field(
        default=SOCKET, metadata=about("Where `bt-selfsecure gateway status` and the like find it.", SOCKET_PATH)
    )
    socket_group: str = key("", "Group that may use the socket; empty: that of the process.")
    profile: str = key("hardened", "Of the connection protocol, one in the whole network.", PROFILE)
    log_level: str = key("info", "How much is logged.", one_of(*LOG_LEVELS))


@dataclass(frozen=True, slots=True)
class DevicesTable:
    """Says how devices find it, and what is asked of them."""

    listen: tuple[str, ...] = key(("0.0.0.0", "::"), "Addresses to listen at: these are all, of IPv4 and IPv6.", HOST)
    negotiation_port: int = key(5711, "UDP; 0 takes a free one.", PORT)
    transmission_port: int = key(5712, "UDP; 0 takes a free one.", PORT)
    advertisement_port: int = key(5710, "UDP, where devices listen.", PORT)
    advertise: bool = key(True, "Whether to advertise every 2 s; else devices must be told where it is.")
    interfaces: tuple[str, ...] = key((), 'Where to advertise, as in ["wlan0", "bt0"]; none named: everywhere.')
    fetch_s: float = key(10.0, "Seconds between two readings of a device's sensors.", between(0.1, 86_400, " s"))
    rekey_s: float = key(3600.0, "Seconds after which a device negotiates a new key.", between(10, 86_400, " s"))
    most: int = key(256, "How many devices may be connected.", between(1, 2048))


@dataclass(frozen=True, slots=True)
class CloudTable:
    """Says where the cloud is. Without one the newest records are kept, and the oldest go."""

    address: str = key("", "Of its negotiation.", PLACE_OR_NONE)
    transmission_port: int = key(5714, "UDP.", PORT)
    most_records: int = key(
        1_000_000,
        "How many records wait for the cloud; then no more are taken, so that none is lost: devices keep their alerts.",
        between(1000, 100_000_000),
    )


@dataclass(frozen=True, slots=True)
class GatewayIpspTable:
    """Brings Bluetooth up as an IP interface (IPSP), on which devices dial this gateway."""

    enabled: bool = key(False, "Whether to.")
    adapter: str = key("hci0", "Bluetooth adapter.")


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Holds all tables."""

    gateway: GatewayTable = GatewayTable()
    devices: DevicesTable = DevicesTable()
    cloud: CloudTable = CloudTable()
    ipsp: GatewayIpspTable = GatewayIpspTable()


def read_config(path: Path) -> tuple[GatewayConfig, Origin]:
    """Return the configuration. Raises `UsageError`, one line with file, line, key and what was expected."""
    return _checked(*read_tables(GatewayConfig, path, "gateway"))


def default_config() -> tuple[GatewayConfig, Origin]:
    """Return what an empty file means."""
    return default_tables(GatewayConfig, DEFAULT_PATH, "gateway")


def _checked(config: GatewayConfig, origin: Origin) -> tuple[GatewayConfig, Origin]:
    if config.devices.negotiation_port == config.devices.transmission_port != 0:
        origin.fail(("devices", "transmission_port"), "is that of the negotiation, too: take another")
    return config, origin


def render(config: GatewayConfig, origin: Origin) -> str:
    """Return the text of a file that reads back as the same configuration, each key with what it means."""
    return render_tables(config, origin, "gateway")
