"""Keys on disk, each in a file of its owner's alone, and who is enrolled.

A key file has a line for each key: an identity and the key, as in `devA 5301919777550`. The key is taken as it stands
there (libcoap: -u IDENTITY -k KEY); where 32 secret bytes are needed, as 64 hexadecimal digits.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.files import is_there, private, write_private
from bt_selfsecure.oob.qr import PREFIX, CodeKind, code_of, read_code
from bt_selfsecure.protocols.dotp.keys import HARDENED_BYTES
from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.protocols.sabour.enrolment import RECORD_BYTES, Enrolment, Identity
from bt_selfsecure.sansio.context import Random

log = logging.getLogger(__name__)

IDENTITY_FILE: Final = "identity"
ENROLLED_FILE: Final = "enrolled"
ROOTS_FOLDER: Final = Path("/var/lib/bt-selfsecure/coap")


def default_folder() -> Path:
    """Return where keys are kept if nobody says where: the system's place for root, else the user's."""
    if os.geteuid() == 0:
        return ROOTS_FOLDER
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "bt-selfsecure/coap"


def new_key(identity: str, random: Random) -> bytes:
    """Return a line of a key file with a new key of 32 bytes. Raises `UsageError` for no identity that fits it."""
    if not identity or not identity.isascii() or not identity.isprintable() or " " in identity or "/" in identity:
        raise UsageError(f"{identity!r} can't be an identity: take ASCII letters, digits and signs, no space and no /")
    return f"{identity} {random(HARDENED_BYTES).hex()}\n".encode()


def read_keys(data: bytes, where: object) -> dict[bytes, bytes]:
    """Return the keys of a key file by identity. Raises `UsageError` where it is none."""
    keys: dict[bytes, bytes] = {}
    for number, line in enumerate(data.splitlines(), 1):
        words = line.split()
        if len(words) != 2 or words[0] in keys:
            what = "has an identity for the second time" if len(words) == 2 else "is not an identity and a key"
            raise UsageError(f"{where}: line {number} {what}: write `IDENTITY KEY`, or see coap key")
        keys[words[0]] = words[1]
    if not keys:
        raise UsageError(f"{where} has no key: write `IDENTITY KEY`, or see coap key")
    return keys


def secret_of(data: bytes, where: object) -> tuple[str, bytes]:
    """Return the identity and the 32 bytes of a key file with one key. Raises `UsageError` for any other."""
    ((identity, key), *others) = read_keys(data, where).items()
    try:
        secret = bytes.fromhex(key.decode("ascii"))
    except ValueError:
        secret = b""
    if others or len(secret) != HARDENED_BYTES:
        raise UsageError(f"{where}: one key of {2 * HARDENED_BYTES} hexadecimal digits is needed here: see coap key")
    return identity.decode("ascii", "replace"), secret


def own_identity(folder: Path, random: Random) -> Identity:
    """Return who this device is for Sabour's handshake; the first time it is drawn. Raises `UsageError`."""
    path = folder / IDENTITY_FILE
    if not path.exists():
        identity = Identity.generate(random)
        write_private(path, (identity.device_id + identity.seed).hex().encode() + b"\n", new=True)
        return identity
    try:
        kept = bytes.fromhex(private(path).decode("ascii"))
    except ValueError:
        kept = b""
    if len(kept) != RECORD_BYTES:
        raise UsageError(f"{path} is damaged: remove it, and enrol this device anew at the others")
    return Identity(kept[: limits.DEVICE_ID_BYTES], kept[limits.DEVICE_ID_BYTES :])


def enrolled(folder: Path) -> dict[bytes, bytes]:
    """Return the keys of those who are enrolled, by id. Raises `UsageError` where the file can't be used."""
    return _enrolled_of(_written(folder))


def _written(folder: Path) -> bytes:
    path = folder / ENROLLED_FILE
    return private(path) if is_there(path) else b""


def _enrolled_of(written: bytes) -> dict[bytes, bytes]:
    lines = written.decode("ascii", "replace").split()
    return {one.device_id: one.key for one in (enrolment(line) for line in lines)}


class Enrolled(Mapping[bytes, bytes]):
    """Is who is enrolled in a folder now, by id: a server that runs sees who comes and who is struck off. Where the
    file can't be used any more, that is logged and nobody is enrolled. The first reading raises `UsageError`."""

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder
        self._seen = _written(folder)
        self._known = _enrolled_of(self._seen)

    def __getitem__(self, device_id: bytes) -> bytes:
        return self._now()[device_id]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def _now(self) -> dict[bytes, bytes]:
        try:
            written = _written(self._folder)
            if written != self._seen:
                self._known, self._seen = _enrolled_of(written), written
        except (UsageError, OSError) as failure:
            log.error("nobody is enrolled as long as that is so: %s", failure)
            return {}
        return self._known


def enrolment(text: str) -> Enrolment:
    """Return the record that a code or 80 hexadecimal digits say. Raises `UsageError` for what is none."""
    if text.startswith(PREFIX):
        try:
            return Enrolment.decode(read_code(text, CodeKind.SABOUR_DEVICE))
        except UnreadableError as error:
            raise UsageError(str(error)) from None
    try:
        record = bytes.fromhex(text)
    except ValueError:
        record = b""
    if len(record) != RECORD_BYTES:
        raise UsageError(
            f"{text[:20]!r} is no record: it is a code ({PREFIX}...) or {2 * RECORD_BYTES} hexadecimal digits, as coap "
            "identity shows them"
        )
    try:
        return Enrolment.decode(record)
    except UnreadableError as error:
        raise UsageError(str(error)) from None


def device_id(text: str) -> bytes:
    """Return the id that 16 hexadecimal digits say. Raises `UsageError` for what is none."""
    try:
        named = bytes.fromhex(text)
    except ValueError:
        named = b""
    if len(named) != limits.DEVICE_ID_BYTES:
        digits = 2 * limits.DEVICE_ID_BYTES
        raise UsageError(f"{text!r} is no id: it has {digits} hexadecimal digits, see coap devices")
    return named


def code_of_record(record: Enrolment) -> str:
    """Return the record as a code, for people and cameras."""
    return code_of(CodeKind.SABOUR_DEVICE, record.encode())


def enrol(folder: Path, record: Enrolment) -> None:
    """Enrol this one, instead of a former key of the same id."""
    _write_enrolled(folder, enrolled(folder) | {record.device_id: record.key})


def strike_off(folder: Path, device_id: bytes) -> None:
    """Raises `UsageError` where it is not enrolled."""
    known = enrolled(folder)
    if known.pop(device_id, None) is None:
        raise UsageError(f"{device_id.hex()} is not enrolled: see coap devices")
    _write_enrolled(folder, known)


def _write_enrolled(folder: Path, known: dict[bytes, bytes]) -> None:
    lines = "".join(f"{Enrolment(device_id, key).encode().hex()}\n" for device_id, key in known.items())
    write_private(folder / ENROLLED_FILE, lines.encode())
