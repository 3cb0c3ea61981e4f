"""The cloud's configuration: each key declared once, with its default, its range and what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from bt_selfsecure.iot.configured import HOST, PORT, PROFILE, default_tables, read_tables, render_tables
from bt_selfsecure.node.config import ABSOLUTE, LOG_LEVELS, about, between, key, matching, one_of
from bt_selfsecure.node.tables import Origin

DEFAULT_PATH: Final = Path("/etc/bt-selfsecure/cloud.toml")
STATE: Final = Path("/var/lib/bt-selfsecure-cloud")
DAYS: Final = between(1, 36_500)


@dataclass(frozen=True, slots=True)
class CloudServerTable:
    """Sets up the cloud itself."""

    state: Path = field(
        default=STATE, metadata=about("Folder with key, certificate, owner, network and lists.", ABSOLUTE)
    )
    database: str = key(
        "",
        'Where all is kept: "postgresql://USER@HOST/NAME", or empty for SQLite, cloud.db in the folder.',
        matching(r"|postgres(ql)?://\S+", 'a URL as in "postgresql:///cloud", or empty'),
    )
    profile: str = key("hardened", "Of the connection protocol, one in the whole network.", PROFILE)
    log_level: str = key("info", "How much is logged.", one_of(*LOG_LEVELS))


@dataclass(frozen=True, slots=True)
class GatewaysTable:
    """Says where gateways find it."""

    listen: tuple[str, ...] = key(
        ("0.0.0.0", "::"), "Addresses to listen at; none for a second server, which serves REST alone.", HOST
    )
    negotiation_port: int = key(5713, "UDP; 0 takes a free one.", PORT)
    transmission_port: int = key(5714, "UDP; 0 takes a free one.", PORT)
    rekey_s: float = key(3600.0, "Seconds after which a gateway negotiates a new key.", between(10, 86_400, " s"))


@dataclass(frozen=True, slots=True)
class ApiTable:
    """Sets up REST and the page."""

    listen: tuple[str, ...] = key(("127.0.0.1", "::1"), "Addresses to listen at.", HOST)
    port: int = key(8443, "TCP; 0 takes a free one.", PORT)
    https: str = key(
        "own",
        '"own": with a certificate of the authority in the folder https of the state, which is made; "files": with '
        'cloud.crt and cloud.key, which you put there; "off": behind a proxy on this computer.',
        one_of("own", "files", "off"),
    )
    names: tuple[str, ...] = key(
        ("localhost", "127.0.0.1", "::1"), 'Under which it is reached: for the certificate of "own".'
    )
    requests_per_minute: int = key(600, "Of one token; more are told to wait.", between(1, 1_000_000))


@dataclass(frozen=True, slots=True)
class KeepTable:
    """Says how long what is kept."""

    readings_days: int = key(90, "Days of readings.", DAYS)
    alerts_days: int = key(365, "Days of alerts, and of commands.", DAYS)
    structure_days: int = key(365, "Days of who was connected to whom.", DAYS)


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """Holds all tables."""

    cloud: CloudServerTable = CloudServerTable()
    gateways: GatewaysTable = GatewaysTable()
    api: ApiTable = ApiTable()
    keep: KeepTable = KeepTable()


def read_config(path: Path) -> tuple[CloudConfig, Origin]:
    """Return the configuration. Raises `UsageError`, one line with file, line, key and what was expected."""
    config, origin = read_tables(CloudConfig, path, "cloud")
    if config.gateways.negotiation_port == config.gateways.transmission_port != 0:
        origin.fail(("gateways", "transmission_port"), "is that of the negotiation, too: take another")
    if config.api.https == "off" and not all(ip_address(host).is_loopback for host in config.api.listen):
        origin.fail(
            ("api", "https"), "may be off on this computer alone, where a proxy is before it: tokens would show"
        )
    return config, origin


def default_config() -> tuple[CloudConfig, Origin]:
    """Return what an empty file means."""
    return default_tables(CloudConfig, DEFAULT_PATH, "cloud")


def render(config: CloudConfig, origin: Origin) -> str:
    """Return the text of a file that reads back as the same configuration, each key with what it means."""
    return render_tables(config, origin, "cloud")
