"""A D-OTP pair on disk: its record in a file of its owner's alone, replaced whole and synced before its keys are used.

One program at a time has it: two would take the same numbers. Format (JSON, version 1):

{"format": "bt-selfsecure coap pair", "version": 1, "identity": "8f3a11c2", "record": {...as in docs/protocols/dotp.md}}
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import OWNER, is_there, private, write_private
from bt_selfsecure.protocols.dotp.keys import Profile, Role
from bt_selfsecure.protocols.dotp.record import DotpRecord, RecordError

FORMAT: Final = "bt-selfsecure coap pair"
VERSION: Final = 1
SUFFIX: Final = ".pair"


class PairFile:
    """Is one end of a pair, held by this program until `close`. Raises `UsageError` for a file that can't be used."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._lock: int | None = None
        if not is_there(path):
            raise UsageError(f"there is no pair {path.stem!r} in {path.parent}: make it with bt-selfsecure coap pair")
        try:
            self._lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise UsageError(f"another program uses the pair {path.stem!r}: end it, or give this one its own") from None
        except OSError as error:
            self.close()
            raise UsageError(f"can't lock {path} ({error.strerror}): name a folder of yours") from None
        try:
            self.identity, self.record = _read(private(path), path)
        except UsageError:
            self.close()
            raise

    @staticmethod
    def begin(path: Path, identity: str, record: DotpRecord) -> None:
        """Write the beginning of a pair. Raises `UsageError` where there is one of this name."""
        write_private(path, _packed(identity, record), new=True)

    def write(self, record: DotpRecord) -> None:
        """Return once the record is on the disk. Raises `UsageError` where it can't be."""
        write_private(self.path, _packed(self.identity, record))
        self.record = record

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __del__(self) -> None:
        self.close()

    def expect(self, role: Role) -> None:
        """Raises `UsageError` where this end is the other one."""
        if self.record.role is not role:
            raise UsageError(
                f"{self.path.stem!r} is the {self.record.role.value} of its pair, and the {role.value} is needed here: "
                f"make the pair with --as {role.value}"
            )

    @property
    def is_paper(self) -> bool:
        return self.record.profile is Profile.PAPER


def _packed(identity: str, record: DotpRecord) -> bytes:
    kept = {"format": FORMAT, "version": VERSION, "identity": identity, "record": json.loads(record.to_json())}
    return json.dumps(kept).encode() + b"\n"


def _read(data: bytes, path: Path) -> tuple[str, DotpRecord]:
    try:
        kept = json.loads(data)
        if not isinstance(kept, dict) or (kept.get("format"), kept.get("version")) != (FORMAT, VERSION):
            raise UsageError(f"{path} is no pair of version {VERSION}: make it with bt-selfsecure coap pair")
        return str(kept["identity"]), DotpRecord.from_json(json.dumps(kept["record"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{path} is damaged: remove it, and make the pair anew at both ends with a new key") from None
    except RecordError as error:
        raise UsageError(f"{path}: {error}") from None
