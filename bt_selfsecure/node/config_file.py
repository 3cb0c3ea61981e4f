"""Reads the configuration file, names file, line and key of what is wrong with it, and prints it annotated."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.bearers.places import parse_place
from bt_selfsecure.bearers.specs import BearerSpec, parse_spec
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.config import (
    ANY,
    NUMBER_KEYS,
    Config,
    PeerTable,
    Rule,
    bearer_spec,
)
from bt_selfsecure.node.paired import paired_peers
from bt_selfsecure.node.tables import Origin, TableReader, load_toml, parse_toml, shown, table_lines, wrapped
from bt_selfsecure.node.via import check_relay

NO_ADDRESS: Final = bytes(6)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """Holds a configuration, and where it came from."""

    config: Config
    origin: Origin


def load(path: Path) -> ConfigFile:
    """Read it for a node: every value, what they demand of each other, and who was paired. Raises UsageError, one line
    with file, line, key and what was expected."""
    file = with_paired(read(path))
    check(file)
    return file


def with_paired(file: ConfigFile) -> ConfigFile:
    """Return it with the peers that were paired, where they may be read. Raises `UsageError`."""
    config = file.config
    paired = paired_peers(config.node.state_directory)
    for number, peer in enumerate(config.peer):
        for other in paired:
            for name in ("name", "address"):
                if getattr(peer, name) == getattr(other, name):
                    file.origin.fail(
                        ("peer", number, name),
                        f"is that of a peer that was paired: leave this one out, or bt-selfsecure pair forget "
                        f"{other.name}",
                    )
    return ConfigFile(dataclasses.replace(config, peer=config.peer + paired), file.origin)


def read(path: Path) -> ConfigFile:
    """Read it, each value by itself: quicker, and enough to find the node's socket. Raises UsageError as `load`."""
    remedy = "`bt-selfsecure config show` prints one to begin with"
    return _config_file(*load_toml(path, missing=remedy, kind="configuration of a node"))


def parse(text: str, path: Path) -> ConfigFile:
    """Return the configuration that `text` writes; `path` is for the words of a UsageError."""
    return _config_file(*parse_toml(text, path, "configuration of a node"))


def _config_file(values: dict[str, Any], origin: Origin) -> ConfigFile:
    reader = TableReader(origin)
    reader.refuse_unknown((), values, [field.name for field in dataclasses.fields(Config)])
    read: dict[str, Any] = {
        name: _peers(value, reader, origin)
        if name == "peer"
        else reader.table(type(getattr(Config(), name)), (name,), value)
        for name, value in values.items()
    }
    return ConfigFile(Config(**read), origin)


def _peers(value: Any, reader: TableReader, origin: Origin) -> tuple[PeerTable, ...]:
    if not isinstance(value, list) or not all(isinstance(peer, dict) for peer in value):
        origin.fail(("peer",), "must be written [[peer]], with two brackets, once for each peer")
    peers = [reader.table(PeerTable, ("peer", number), peer) for number, peer in enumerate(value)]
    for name in ("name", "address", "udp"):
        first: dict[str, int] = {}
        for number, peer in enumerate(peers):
            if not getattr(peer, name):
                continue
            other = first.setdefault(getattr(peer, name), number)
            if other != number:
                line = origin.line(("peer", other, name))
                origin.fail(("peer", number, name), f"is that of another peer already (line {line})")
    return tuple(peers)


def check(file: ConfigFile) -> None:
    """Check what the parts of a configuration demand of each other. Raises `UsageError`."""
    config, fail = file.config, file.origin.fail
    for number, peer in enumerate(config.peer):
        if peer.address in (config.node.address, config.node.adapter):
            fail(("peer", number, "address"), "is this node's own: each node has another one")
    if config.establish.profile == "paper":
        if config.establish.exchange_shares:
            fail(("establish", "profile"), 'is "paper", which has no X25519: add exchange_shares = false')
        for number, peer in enumerate(config.peer):
            if peer.authentication_key_file:
                place = ("peer", number, "authentication_key_file")
                fail(place, 'can\'t be used with the profile "paper": leave it out, or take profile = "hardened"')
    for name in ("establish", "session"):
        bearer = getattr(config, name).bearer
        rule, number = _number(config, bearer_spec(config, bearer))
        if not rule.accepts(number):
            fail((name, "bearer"), f"is {shown(bearer)}, whose number must be {rule.expected}")
    if config.session.bearer == "le_advert":
        fail(("session", "bearer"), "is le_advert, whose 24 bytes hold no message: take rfcomm, l2cap or ipsp")
    _check_udp(file)
    check_relay(config, file.origin)
    from bt_selfsecure.node.haoxiao.endpoint_config import session_config

    for name, build in (("session", lambda: session_config(config)), ("establish", lambda: _build_establish(config))):
        try:
            build()
        except UsageError as error:
            fail((name,), f"does not fit together: {error}")


def _check_udp(file: ConfigFile) -> None:
    """Who is where, on a node of which a bearer at least is udp."""
    config, fail = file.config, file.origin.fail
    specs = {name: parse_spec(getattr(config, name).bearer) for name in ("session", "establish")}
    own = config.node.address
    if config.needs_adapter:
        if own:
            fail(("node", "address"), "is for a node without a radio, and this one has its adapter's: leave it out")
    elif not own:
        fail(("session", "bearer"), 'is udp: a node without a radio needs [node] address = "02:00:00:00:00:01" or so')
    if specs["session"].name == specs["establish"].name and specs["session"].faults != specs["establish"].faults:
        what = shown(config.session.bearer)
        fail(("establish", "bearer"), f"must be {what} like [session] bearer: both are on one socket")
    if "udp" not in {spec.name for spec in specs.values()}:
        return
    listen = parse_place(config.udp.listen)
    for number, peer in enumerate(config.peer):
        if peer.via:
            continue
        if not peer.udp:
            fail(("peer", number), 'needs udp = "127.0.0.1:5701" or wherever it listens, since udp is a bearer here')
        place = parse_place(peer.udp)
        if place == listen:
            fail(("peer", number, "udp"), "is this node's own: each node has another one")
        if (":" in place[0]) != (":" in listen[0]):
            fail(("peer", number, "udp"), f"can't be reached from [udp] listen = {shown(config.udp.listen)}")


def _number(config: Config, spec: BearerSpec) -> tuple[Rule, int]:
    """What the number in a bearer's spec must be, and what it is."""
    if spec.name not in NUMBER_KEYS:
        return ANY, spec.number
    fields = {field.name: field for field in dataclasses.fields(getattr(config, spec.name))}
    return fields[NUMBER_KEYS[spec.name]].metadata["rule"], spec.number


def _build_establish(config: Config) -> None:
    from bt_selfsecure.node.haoxiao.endpoint_config import establish_config

    core = establish_config(config, NO_ADDRESS)
    if core.hardened and core.n_r > core.max_burst:
        raise UsageError(
            f"target_bits = {core.target_bits:g} takes {core.n_r:,} packets where an eavesdropper misses "
            f"{core.eve_loss_bound:g} of them, and max_burst is {core.max_burst:,}: see `bt-selfsecure plan`"
        )


# --- the annotated file -----------------------------------------------------------------------------------------------


def render(file: ConfigFile, *, origin: bool = False) -> str:
    """Return the text of a file that reads back as the same configuration: each key with what it means; defaults behind
    a `#`.

    With `origin`, each value says where it came from.
    """
    lines = wrapped(
        "Configuration of `bt-selfsecure node`. A line that begins with # and a key shows the default: to change it, "
        "remove the #. Then: bt-selfsecure config check"
    )
    for field in dataclasses.fields(Config):
        if field.name != "peer":
            lines += table_lines(
                file.origin, f"[{field.name}]", (field.name,), getattr(file.config, field.name), tell=origin
            )
    for number, peer in enumerate(file.config.peer):
        lines += table_lines(file.origin, "[[peer]]", ("peer", number), peer, tell=origin)
    if not file.config.peer:
        example = PeerTable("bob", "B8:27:EB:12:34:56")
        lines += table_lines(Origin(file.origin.path, {}), "#[[peer]]", ("peer", 0), example)
    return "\n".join(lines) + "\n"
