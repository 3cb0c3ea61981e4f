"""OSCORE (RFC 8613) with a key that both ends have in advance: one end on disk, in the folder format of aiocoap.

NAME.oscore/secret.json    ids and the master secret, for its owner alone
NAME.oscore/sequence.json  the next number to send, ahead of what was sent, and the replay window; aiocoap's format too

After a crash some numbers are skipped, and the server has the client prove that it is there (Echo, appendix B.1.2).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import filelock
from aiocoap import oscore

from bt_selfsecure.coap.oscore import PresetLostError
from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import is_there, private, write_private
from bt_selfsecure.protocols.dotp.keys import Role

SUFFIX: Final = ".oscore"
SECRET_FILE, SEQUENCE_FILE = "secret.json", "sequence.json"
MOST_IDENTITY_BYTES: Final = 7
"""As AES-CCM-16-64-128 leaves to a sender's id: a nonce of 13, less 6."""


class OscorePair(oscore.FilesystemSecurityContext):  # type: ignore[misc]
    """Is one end, held by this program until `close`. Raises `UsageError` for a folder that can't be used."""

    lost = PresetLostError
    lockfile: Any = None
    sequence_number_persisted: int
    replay_window_persisted: bool

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        if not is_there(path / SECRET_FILE):
            raise UsageError(
                f"there is no pair {path.stem!r} for OSCORE in {path.parent}: make it with coap pair --for oscore"
            )
        private(path / SECRET_FILE)
        try:
            super().__init__(str(path))
        except filelock.Timeout:
            raise UsageError(f"another program uses the pair {path.stem!r}: end it, or give this one its own") from None
        except OSError as error:
            raise UsageError(f"can't use {path} ({error.strerror}): name a folder of yours") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._let_go()
            raise UsageError(
                f"{path} is damaged: remove it, and make the pair anew at both ends with a new key"
            ) from None

    @staticmethod
    def begin(path: Path, role: Role, identity: str, secret: bytes) -> None:
        """Write the beginning of one end. Raises `UsageError` where there is one, and for an identity that is too long:
        it is the client's sender id, and the server's is empty."""
        client = identity.encode()
        if len(client) > MOST_IDENTITY_BYTES:
            raise UsageError(
                f"{identity!r} is too long for OSCORE, which sends it each time: make a key with an identity of at "
                f"most {MOST_IDENTITY_BYTES} letters"
            )
        own, other = (client, b"") if role is Role.CLIENT else (b"", client)
        kept = {"sender-id_hex": own.hex(), "recipient-id_hex": other.hex(), "secret_hex": secret.hex()}
        write_private(path / SECRET_FILE, json.dumps(kept).encode() + b"\n", new=True)

    @property
    def authenticated_claims(self) -> list[str]:
        return [(self.recipient_id or self.sender_id).decode(errors="replace")]

    def is_trusted(self) -> bool:
        return True

    def expect(self, role: Role) -> None:
        """Raises `UsageError` where this end is the other one."""
        if bool(self.sender_id) != (role is Role.CLIENT):
            raise UsageError(
                f"{self.path.stem!r} is the other end of its pair, and the {role.value} is needed here: make the pair "
                f"with --as {role.value}"
            )

    def _store(self) -> None:
        """Bring the numbers to the disk: also the folder is synced, which aiocoap's own does not."""
        window = self.recipient_replay_window.persist() if self.replay_window_persisted else "unknown"
        kept = {"next-to-send": self.sequence_number_persisted, "received": window}
        write_private(self.path / SEQUENCE_FILE, json.dumps(kept).encode() + b"\n")

    def close(self) -> None:
        """Keep the numbers as they are, and let others have the pair."""
        if self.lockfile is None:
            return
        self.sequence_number_persisted = self.sender_sequence_number
        self.replay_window_persisted = self.recipient_replay_window.is_initialized()
        try:
            self._store()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self.lockfile is not None:
            self.lockfile.release()
            self.lockfile = None

    def __del__(self) -> None:
        self._let_go()


class OscorePairs:
    """Finds the pair of a server by the id of who sends."""

    def __init__(self, pairs: Sequence[OscorePair]) -> None:
        """Raises `UsageError` where two have one id."""
        for pair in pairs:
            pair.expect(Role.SERVER)
        self._pairs: Final = {pair.recipient_id: pair for pair in pairs}
        if len(self._pairs) < len(pairs):
            raise UsageError("two pairs have one identity: make one of them anew, with another")

    def of(self, sender_id: bytes) -> Iterable[OscorePair]:
        found = self._pairs.get(sender_id)
        return [] if found is None else [found]
