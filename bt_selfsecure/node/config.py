"""The node's configuration: each key declared once, with its default, its range and what it means.

`config_file` reads and prints it; what a protocol takes from it is built in the folder of its name. Here are no
machines, since every command reads the configuration, also on a Pi Zero.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import Any, Final, NamedTuple, TypeVar

from bt_selfsecure.addresses import EXAMPLE, is_address, spelled
from bt_selfsecure.bearers.limits import FLUSH_TIMEOUT_SLOTS, PSM
from bt_selfsecure.bearers.places import UdpPlaces, parse_place
from bt_selfsecure.bearers.specs import BearerSpec, parse_spec
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.where import SOCKET
from bt_selfsecure.protocols.haoxiao import limits

STATE_DIRECTORY: Final = Path("/var/lib/bt-selfsecure")
NUMBER_KEYS: Final[Mapping[str, str]] = {"rfcomm": "channel", "l2cap": "psm", "ipsp": "port"}
"""Bearers that have a number, and its key in the bearer's table."""
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
KEY_FILE_BYTES: Final = range(limits.MIN_AUTHENTICATION_KEY_BYTES, 4097)

T = TypeVar("T")
Nested = str | tuple[Any, ...]
"""A value of a file that is text, or a list, perhaps of lists."""


class Rule(NamedTuple):
    """Says what a value must be, beyond its type."""

    expected: str
    """Completes "must be ..."."""
    accepts: Callable[[Any], bool]


def between(low: float, high: float, unit: str = "") -> Rule:
    """Return a rule for numbers from `low` to `high`, both ends included; `unit` stands behind them in the text."""
    return Rule(f"{low:,} to {high:,}{unit}", lambda value: low <= value <= high)


def one_of(*choices: str) -> Rule:
    return Rule("one of " + ", ".join(f'"{choice}"' for choice in choices), lambda value: value in choices)


def matching(pattern: str, expected: str) -> Rule:
    return Rule(expected, lambda value: re.fullmatch(pattern, value) is not None)


ANY: Final = Rule("anything", lambda value: True)
ABSOLUTE: Final = Rule("an absolute path", lambda value: value.is_absolute() and "\0" not in str(value))
PATH_OR_NONE: Final = matching(r"|/[^\0]*", "an absolute path, or empty")
SOCKET_PATH: Final = Rule(
    "an absolute path of at most 107 bytes", lambda value: ABSOLUTE.accepts(value) and len(os.fsencode(value)) <= 107
)
NAME: Final = matching(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "1 to 64 letters (A to Z, a to z), digits, dots, hyphens or underscores"
)
ADDRESS: Final = Rule(f'a device address, as in "{EXAMPLE}"', is_address)
OWN_ADDRESS: Final = Rule(
    'a device address, as in "02:00:00:00:00:01", or empty', lambda value: not value or is_address(value)
)


def is_good(parse: Callable[[str], object], text: str) -> bool:
    """Return whether `parse` takes this text, and raises no `UsageError`."""
    try:
        parse(text)
    except UsageError:
        return False
    return True


def _is_bearer(text: str) -> bool:
    plain = re.fullmatch(rf"le_advert|udp|({'|'.join(NUMBER_KEYS)})(#[0-9]{{1,5}})?", text)
    return plain is not None or (text.startswith("faults:") and is_good(parse_spec, text))


BEARER: Final = Rule(
    f'le_advert, {", ".join(NUMBER_KEYS)}, the last three perhaps with a number, as in "rfcomm#3", or udp, perhaps '
    'with losses that are drawn, as in "faults:loss=0.1;udp"',
    _is_bearer,
)
PLACE: Final = Rule(
    'an IP address with a UDP port, as in "127.0.0.1:5700" or "[::1]:5700"', partial(is_good, parse_place)
)
PLACE_OR_NONE: Final = Rule(f"{PLACE.expected}, or empty", lambda value: not value or PLACE.accepts(value))


def _is_via(value: Nested) -> bool:
    if not isinstance(value, tuple):
        return value in ("", "auto")
    groups = value if len(value) == 2 and all(isinstance(group, tuple) for group in value) else (value,)
    names = [name for group in groups for name in group]
    return all(groups) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


VIA: Final = Rule('"auto", a list of peers, as in ["bob"], or two such lists, as in [["bob"], ["dave"]]', _is_via)
END: Final = Rule(
    f'names of peers or device addresses, as in ["alice", "{EXAMPLE}"]',
    lambda value: NAME.accepts(value) or is_address(value),
)


def about(doc: str, rule: Rule = ANY, read: Callable[[str], str] = str) -> dict[str, Any]:
    """Return what is declared with a key; `read` makes the usual spelling of what is written."""
    return {"doc": doc, "rule": rule, "read": read}


def key(default: T, doc: str, rule: Rule = ANY) -> T:
    """Declare a key that has a default."""
    return field(default=default, metadata=about(doc, rule))


@dataclass(frozen=True, slots=True)
class NodeTable:
    """Sets up the daemon itself."""

    adapter: str = field(
        default="hci0",
        metadata=about(
            "Bluetooth adapter, by its name or by its device address, which stays where names change.",
            Rule(
                f'an adapter, as in "hci0" or "{EXAMPLE}"',
                lambda value: re.fullmatch(r"hci[0-9]{1,3}", value) is not None or is_address(value),
            ),
            read=lambda text: address if ":" in (address := spelled(text)) else text,
        ),
    )
    name: str = field(
        default_factory=gethostname,
        metadata=about("Name under which peers discover this node; by default the machine's.", NAME),
    )
    address: str = field(
        default="",
        metadata=about(
            "Own device address of a node whose bearers are all udp: any, and known to its peers. With a radio it is "
            "the adapter's, and this stays empty.",
            OWN_ADDRESS,
            read=spelled,
        ),
    )
    state_directory: Path = field(default=STATE_DIRECTORY, metadata=about("Where keys and queues are kept.", ABSOLUTE))
    socket: Path = field(default=Path(SOCKET), metadata=about("Unix socket of the local API.", SOCKET_PATH))
    socket_group: str = key("", "Group whose members may use the local API; empty: the daemon's own group.")
    accept: str = key(
        "configured",
        'Whose requests are answered: of the [[peer]] tables only, or of "anyone".',
        one_of("configured", "anyone"),
    )
    max_links: int = key(16, "Links open at once; further ones are refused.", between(1, 255))
    queue_messages: int = key(
        1000, "Most messages that wait in each queue: one outbox and one inbox a peer.", between(1, 1_000_000)
    )
    log_level: str = key("info", "Least important messages that are logged.", one_of(*LOG_LEVELS))
    metrics_file: str = key(
        "",
        "File for Prometheus's textfile collector, readable by everyone, as in /run/bt-selfsecure/node.prom. "
        "Empty: none.",
        PATH_OR_NONE,
    )


@dataclass(frozen=True, slots=True)
class EstablishTable:
    """Says how keys are agreed on."""

    bearer: str = key(
        "le_advert",
        "What carries the burst. Losses show on le_advert and l2cap; rfcomm and ipsp hide them from the responder. "
        "What udp loses keeps no secret.",
        BEARER,
    )
    profile: str = key("hardened", "Cipher suite and rules; the same at both ends.", one_of("hardened", "paper"))
    target_bits: float = key(128.0, "Secret bits that the losses must give.", between(1, 256, " bits"))
    eve_loss_bound: float = key(
        0.05,
        "Share of what the responder hears that an eavesdropper misses at least; measure it, the secrecy rests on it. "
        "What she has a damaged copy of she did not miss.",
        Rule("above 0 and at most 1", lambda value: 0 < value <= 1),
    )
    burst: int = key(400, "Packets of the first part of a burst.", between(1, limits.MAX_BURST))
    max_burst: int = key(20_000, "Packets of all parts together.", between(1, limits.MAX_BURST))
    interval_ms: float = key(
        0.0,
        "Between two burst packets; 0: 30 ms on le_advert, 10 on l2cap, 5 elsewhere. Doubled where that was too fast.",
        between(0, 10_000, " ms"),
    )
    exchange_shares: bool = key(True, "Mix in X25519, so that the key is at least as strong as the better of the two.")
    renew_after_hours: float = key(720.0, "A new key after this time; 0: never for its age.", between(0, 87_600, " h"))
    renew_after_messages: int = key(
        1_000_000, "A new key after this many messages; 0: never for their number.", between(0, 10**15)
    )


@dataclass(frozen=True, slots=True)
class SessionTable:
    """Says how messages are carried under the key."""

    bearer: str = key("rfcomm", "What carries the session.", BEARER)
    durability: str = key(
        "every-message",
        "When a message is on disk: before it leaves and before it is acknowledged (exactly once, also across power "
        "loss), or with every W-th round only (faster, spares an SD card; where one end dies it may show messages "
        "again, where both die it may lose up to W rounds).",
        one_of("every-message", "every-W"),
    )
    checkpoint_rounds: int = key(
        64, "W: rounds from one checkpoint to the next; the same at both ends.", between(1, 4096)
    )
    omega: int = key(8, "Retransmissions before the peer is called unreachable.", between(1, limits.MAX_RETRAN))
    timeout_ms: float = key(
        500.0, "Until the first retransmission; doubled at each further one.", between(1, 600_000, " ms")
    )
    max_timeout_s: float = key(10.0, "Between retransmissions at most.", between(0.001, 3600, " s"))


@dataclass(frozen=True, slots=True)
class DiscoveryTable:
    """Says how nodes find each other."""

    advertise: bool = key(True, "Advertise this node over Bluetooth LE.")
    scan: bool = key(True, "Look for the peers now and then.")
    scan_interval_s: float = key(60.0, "From one look to the next.", between(1, 86_400, " s"))


@dataclass(frozen=True, slots=True)
class RfcommTable:
    """Sets up bearer rfcomm: a reliable stream; the link hides its losses."""

    channel: int = key(0, "Channel to listen on and to dial; 0: found by SDP.", between(0, 30))
    pair: bool = key(True, "Pair with configured peers without asking (Just Works), as a Pi without a screen must.")


@dataclass(frozen=True, slots=True)
class L2capTable:
    """Sets up bearer l2cap: datagrams that the controller drops where the radio loses them."""

    psm: int = key(
        PSM,
        "Protocol/service multiplexer to listen on and to dial.",
        Rule("an odd number from 4097 to 65279 whose bit 8 is 0", lambda v: 0x1001 <= v <= 0xFEFF and v & 0x0101 == 1),
    )
    flush_timeout_slots: int = key(
        FLUSH_TIMEOUT_SLOTS,
        "After so many slots of 0.625 ms the controller gives a packet up.",
        between(1, 2047, " slots"),
    )


@dataclass(frozen=True, slots=True)
class IpspTable:
    """Sets up bearer ipsp (experimental): UDP over IPv6 over Bluetooth LE; the link hides its losses."""

    port: int = key(5700, "UDP port.", between(1, 65_535))


@dataclass(frozen=True, slots=True)
class UdpTable:
    """Sets up bearer udp: this computer or a network, no radio; who reads there misses nothing that the peer has."""

    listen: str = key("127.0.0.1:5700", "IP address and UDP port to listen on; 127.0.0.1: for this computer.", PLACE)


@dataclass(frozen=True, slots=True)
class RelayTable:
    """Says whose messages this node carries to others; it can read none of them."""

    for_: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Whom it forwards for: whatever one of these sends to another of them.",
            END,
            read=lambda text: spelled(text) if ":" in text else text,
        ),
    )
    max_links: int = key(32, "Links of others at once; one neighbour has half of them at most.", between(1, 4096))
    queue_bytes: int = key(
        65_536, "That wait for one neighbour; more is dropped, and repeated by the ends.", between(4096, 1 << 24)
    )
    rate_bytes: int = key(32_768, "A second from one neighbour on average; more is dropped.", between(256, 1 << 24))


@dataclass(frozen=True, slots=True)
class PeerTable:
    """Names a node to talk to; there is one [[peer]] for each."""

    name: str = field(metadata=about("What it is called here.", NAME))
    address: str = field(metadata=about("Its Bluetooth device address, or its [node] address.", ADDRESS, read=spelled))
    dial: str = key(
        "auto", "Who opens the link: in auto the one with the lower address.", one_of("auto", "always", "never")
    )
    authentication_key_file: str = key(
        "",
        "File with a key of 16 random bytes or more that both ends have; it proves who the peer is. Empty: none.",
        PATH_OR_NONE,
    )
    bootstrapped: bool = key(
        False, "Whether that key came of bootstrapping: bt-selfsecure bootstrap join and admit write both."
    )
    udp: str = key(
        "", 'Where it listens on udp, as in "127.0.0.1:5701"; no other place may use its address.', PLACE_OR_NONE
    )
    via: Nested = field(
        default="",
        metadata=about(
            'Peers that it is reached through, where it is not heard here: any of a list, or, with "auto", of all. Two '
            "lists are two ways without a common relay: only both together can come between when a key is agreed on. "
            "Empty: directly.",
            VIA,
        ),
    )

    @property
    def identity(self) -> bytes:
        return address_bytes(self.address)


@dataclass(frozen=True, slots=True)
class Config:
    """Holds the whole configuration file, one attribute a table."""

    node: NodeTable = field(default_factory=NodeTable)
    establish: EstablishTable = field(default_factory=EstablishTable)
    session: SessionTable = field(default_factory=SessionTable)
    discovery: DiscoveryTable = field(default_factory=DiscoveryTable)
    rfcomm: RfcommTable = field(default_factory=RfcommTable)
    l2cap: L2capTable = field(default_factory=L2capTable)
    ipsp: IpspTable = field(default_factory=IpspTable)
    udp: UdpTable = field(default_factory=UdpTable)
    relay: RelayTable = field(default_factory=RelayTable)
    peer: tuple[PeerTable, ...] = ()

    @property
    def needs_adapter(self) -> bool:
        """Return whether any of its bearers is a radio."""
        return set(self.bearers) != {"udp"}

    @property
    def bearers(self) -> tuple[str, str]:
        """Return the names of what carries establishment and session."""
        return parse_spec(self.establish.bearer).name, parse_spec(self.session.bearer).name

    def find_peer(self, name_or_address: str) -> PeerTable | None:
        """Return the peer of that name or address, if one is configured."""
        address = spelled(name_or_address)
        return next((peer for peer in self.peer if peer.name == name_or_address or peer.address == address), None)


def address_bytes(address: str) -> bytes:
    """Return a device address as the 6 bytes of an identity, in the order in which it is written."""
    return bytes.fromhex(address.replace(":", ""))


def bearer_spec(config: Config, bearer: str, adapter: str = "") -> BearerSpec:
    """Return what `open_bearer` takes for a key `bearer`: with its own number, or else that of the bearer's table; on
    this adapter, or the configured one."""
    spec = parse_spec(bearer)
    key = NUMBER_KEYS.get(spec.name)
    number = spec.number or (getattr(getattr(config, spec.name), key) if key else 0)
    return replace(spec, number=number, adapter=adapter or config.node.adapter)


def udp_places(config: Config, own: str) -> UdpPlaces:
    """Return what `open_bearer` takes for udp; `own` is the device address."""
    peers = {peer.address: peer.udp for peer in config.peer if peer.udp}
    return UdpPlaces(own, config.udp.listen, peers, lambda: config.node.accept == "anyone")


def authentication_key(peer: PeerTable) -> bytes:
    """Return the bytes of the peer's key file; empty where none is configured. Raises `UsageError` for a file that
    others may read."""
    if not peer.authentication_key_file:
        return b""
    path = Path(peer.authentication_key_file)
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            secret = file.read(KEY_FILE_BYTES.stop)
    except OSError as error:
        raise UsageError(f"can't read the authentication key of {peer.name}, {path}: {error.strerror}") from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise UsageError(f"{path} is open to other users (mode {mode:04o}): chmod 600 {path}")
    if len(secret) not in KEY_FILE_BYTES:
        raise UsageError(
            f"{path} has {len(secret)} bytes and must have {KEY_FILE_BYTES[0]} to {KEY_FILE_BYTES[-1]}: "
            f"head -c 32 /dev/urandom > {path}"
        )
    return secret
