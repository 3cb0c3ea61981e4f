"""Peers that were paired: tables and keys in the node's own state directory, read beside its configuration.

The configuration is an administrator's, and the daemon may not write it. `paired.toml` has [[peer]] tables as it has;
the authentication key of each is a file of its own in `paired/`, mode 0600.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import is_there, whole
from bt_selfsecure.node import set_aside
from bt_selfsecure.node.config import KEY_FILE_BYTES, PeerTable
from bt_selfsecure.node.disk import directory_refusal
from bt_selfsecure.node.tables import TableReader, key_of, load_toml, toml

FILE: Final = set_aside.PAIRED
FOLDER: Final = set_aside.PAIRED_KEYS
REMEDY: Final = "put a backup in its place (bt-selfsecure restore FILE), or move it away and pair again"
HEAD: Final = "# Peers that were paired. The node writes this file; bt-selfsecure pair forget NAME takes one out.\n"


def paired_peers(directory: Path) -> tuple[PeerTable, ...]:
    """Return the tables of all that were paired; none where the directory may not be read. Raises `UsageError` for a
    file that is damaged.

    The keys are where the list is, whatever folder that was in when they were kept. What a restore that was cut short
    has made ready is read already: the next start puts it in place."""
    place = directory
    try:
        new = directory / set_aside.NEW_PAIRED
        if (directory / set_aside.NEW).exists() and (new / FILE).exists():
            place = new
        path = place / FILE
        if not is_there(path):
            return ()
        if path.is_file():
            path.open("rb").close()
    except PermissionError:
        return ()
    if not path.is_file() or not path.stat().st_size:  # a pipe would be waited for; the node leaves no empty list
        raise UsageError(f"{path} is damaged: {REMEDY}")
    try:
        values, origin = load_toml(path, missing="pair again", kind="list of paired peers")
        reader = TableReader(origin)
        peers = values.get("peer", [])
        if set(values) - {"peer"} or not isinstance(peers, list) or not all(isinstance(peer, dict) for peer in peers):
            origin.fail((), "has something else")
        tables = [reader.table(PeerTable, ("peer", number), peer) for number, peer in enumerate(peers)]
    except UsageError as error:
        raise UsageError(f"{path} is damaged: {REMEDY}") from error
    keys = place if (place / FOLDER).exists() else directory
    return tuple(
        dataclasses.replace(table, authentication_key_file=str(key_file(keys, table.address))) for table in tables
    )


def lost_keys(directory: Path, peers: Iterable[PeerTable]) -> dict[str, str]:
    """Return whose keys the card did not keep, of those that were paired, by address: a sentence each, with what
    helps."""
    lost = {}
    for peer in peers:
        file = Path(peer.authentication_key_file)
        if file.is_relative_to(directory) and file.parent.name == FOLDER and not _is_kept(file):
            lost[peer.address] = (
                f"the key of {peer.name}, {file}, is lost or damaged: put a backup in its place (bt-selfsecure restore "
                f"FILE), or bt-selfsecure pair forget {peer.name}, at both ends, and pair again"
            )
    return lost


def require_keys(directory: Path, peers: Iterable[PeerTable]) -> None:
    """Raises `UsageError`, with the first of those sentences, where the key of one of these is lost."""
    for text in lost_keys(directory, peers).values():
        raise UsageError(text)


def _is_kept(file: Path) -> bool:
    """Whether it can be a key, as far as that can be seen."""
    try:
        if not file.is_file():  # a pipe would be waited for
            return False
        with file.open("rb") as key:
            data = key.read(KEY_FILE_BYTES.stop)
    except PermissionError:
        return True
    except OSError:
        return False
    return len(data) in KEY_FILE_BYTES and len({*data}) > 1


def key_file(directory: Path, address: str) -> Path:
    """Return where the authentication key of the peer of this address is kept."""
    return directory / FOLDER / f"{address.replace(':', '')}.key"


def keep(directory: Path, peer: PeerTable, key: bytes) -> PeerTable:
    """Keep a peer and its key, in the place of what was kept of its address, and return its table as it is read at the
    next start. Raises `UsageError` where the disk does not take it; then nothing is changed."""
    file = key_file(directory, peer.address)
    table = dataclasses.replace(peer, authentication_key_file=str(file))
    with _written(file, f"can't keep the key of {peer.name} in {file}") as part:
        part.write_bytes(key)
    try:
        _write(directory, [one for one in paired_peers(directory) if one.address != peer.address] + [table])
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return table


def forget(directory: Path, address: str) -> bool:
    """Take a peer and its key out; return whether it was there. Raises `UsageError` where the disk does not take it."""
    peers = paired_peers(directory)
    left = [peer for peer in peers if peer.address != address]
    if len(left) < len(peers):
        _write(directory, left)
    _erase(key_file(directory, address))
    return len(left) < len(peers)


def _write(directory: Path, peers: list[PeerTable]) -> None:
    """All of it, or nothing: a plug may be pulled at any moment."""
    lines = [HEAD]
    for peer in peers:
        fields = [field for field in dataclasses.fields(peer) if getattr(peer, field.name) != field.default]
        lines += ["[[peer]]", *(f"{key_of(field)} = {toml(getattr(peer, field.name))}" for field in fields), ""]
    with _written(directory / FILE, f"can't write {directory / FILE}") as part:
        part.write_text("\n".join(lines), encoding="utf-8")


def _erase(file: Path) -> None:
    """What flash keeps below the file system stays there."""
    with suppress(OSError):
        with file.open("r+b") as key:
            key.write(bytes(file.stat().st_size))
            key.flush()
            os.fsync(key.fileno())
        file.unlink()


@contextmanager
def _written(file: Path, doing: str) -> Iterator[Path]:
    """Yield what takes the place of the file once it is on the disk. Raises `UsageError`, which begins with `doing`,
    where the disk does not take it."""
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        with whole(file, 0o600) as part:
            yield part
            _sync(part)
    except (OSError, UsageError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        why = directory_refusal(cause, file.parent) if isinstance(cause, OSError) else error
        raise UsageError(f"{doing}: {why}") from None


def _sync(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())
