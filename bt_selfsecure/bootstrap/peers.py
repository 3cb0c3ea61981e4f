"""What a join ends in: a peer in the node's configuration, with a key of the PSK."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import is_there, whole, write_private
from bt_selfsecure.node.config import NAME
from bt_selfsecure.node.config_file import ConfigFile, check, parse, with_paired
from bt_selfsecure.node.where import DEFAULT_PATH
from bt_selfsecure.protocols.bootstrap.keys import authentication_key

KEYS: Final = "keys"
"""Folder of keys beside the configuration: root's, as the unit of the node reads it."""
OF_THE_SERVICE: Final = "/run/credentials/bt-selfsecure.service/keys_"
READABLE: Final = 0o644


def write_peer(config: Path, name: str, address: str, udp: str, psk: bytes) -> Path:
    """Write the key of a peer, and the peer into the node's configuration, as a new one or into the lines of the one
    with its address. Return the file of the key. Raises `UsageError`: then the configuration is as before."""
    if not NAME.accepts(name):
        raise UsageError(f"{name!r} can't be a peer's name: {NAME.expected}")
    text = _text(config)
    peers = parse(text, config).config.peer
    found = next((number for number, peer in enumerate(peers) if peer.address == address), None)
    called = name if found is None else peers[found].name
    key = config.absolute().parent / KEYS / called
    shown = f"{OF_THE_SERVICE}{called}" if str(config) == DEFAULT_PATH else str(key)
    lines = [f'authentication_key_file = "{shown}"', "bootstrapped = true"]
    if found is None:
        where = [f'udp = "{udp}"'] if udp else []
        made = text + "\n".join(["", "[[peer]]", f'name = "{name}"', f'address = "{address}"', *where, *lines, ""])
    else:
        made = _with(text, parse(text, config), found, lines)
    check(with_paired(parse(made, config)))
    write_private(key, authentication_key(psk))
    if made != text:
        mode = config.stat().st_mode & 0o777 if is_there(config) else READABLE
        with whole(config, mode) as part:
            part.write_text(made, encoding="utf-8")
            if is_there(config) and os.geteuid() == 0:
                owner = config.stat()
                os.chown(part, owner.st_uid, owner.st_gid)
    return key


def _text(config: Path) -> str:
    try:
        text = config.read_text(encoding="utf-8") if is_there(config) else ""
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"can't read {config} ({why}): give --config the node's configuration") from None
    return text if not text or text.endswith("\n") else text + "\n"


def _with(text: str, file: ConfigFile, number: int, lines: list[str]) -> str:
    """Return the text with these lines in the table of a peer, which has other ones of their keys no more."""
    told = text.split("\n")
    for line in lines:
        place = ("peer", number, line.split(" ")[0])
        if place in file.origin.lines:
            told[file.origin.lines[place] - 1] = line
    fresh = [line for line in lines if ("peer", number, line.split(" ")[0]) not in file.origin.lines]
    at = file.origin.line(("peer", number, "address"))
    return "\n".join([*told[:at], *fresh, *told[at:]])
