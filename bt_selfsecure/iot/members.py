"""What a device and a gateway do alike: judge by what their owner says now, and take its lists."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.iot.folder import IdentityFolder, expires_soon
from bt_selfsecure.iot.telling import ToldOnce
from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.config import NegotiationConfig
from bt_selfsecure.protocols.iotcrypto.lists import TrustList
from bt_selfsecure.protocols.iotcrypto.messages import Profile
from bt_selfsecure.protocols.iotcrypto.transmission import ListPieces
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    Acknowledgement,
    Answer,
    ErrorCode,
    ErrorMessage,
    ListPiece,
)
from bt_selfsecure.protocols.iotcrypto.trust import Judgement, NotTakenError, TrustStore

log = logging.getLogger(__name__)


class Member:
    """Is one identity at work. What others put into its folder meanwhile it takes at the next `reread`."""

    def __init__(
        self,
        folder: IdentityFolder,
        role: Role,
        profile: Profile = Profile.HARDENED,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Raises `UsageError` where the folder lacks something, or is of another role."""
        self.folder: Final = folder
        self.profile: Final = profile
        self.wall: Final = wall
        """Returns seconds since 1970."""
        self.secrets: Final = folder.secrets()
        self.network: Final = folder.network()
        self._told: Final = ToldOnce(log)
        self._told_soon = ""
        self._files: dict[str, tuple[int, int]] = {}
        self._pieces: Final = ListPieces()
        self.signed = folder.signed()
        self.trust: TrustStore = folder.trust()
        self.reread()
        if self.signed.certificate.role is not role:
            found = self.signed.certificate.role.name.lower()
            raise UsageError(f"{folder.path} is of a {found}, and a {role.name.lower()}'s is needed: name its --state")

    @property
    def id(self) -> bytes:
        return self.signed.certificate.id

    def reread(self) -> bool:
        """Read again what has changed on the disk; return whether anything had. What can't be read stays as it was."""
        soon = expires_soon(self.signed.certificate, self.wall())
        if soon and soon != self._told_soon:
            log.warning("%s", soon)
        self._told_soon = soon
        files = {}
        for path in self.folder.path.iterdir():
            if not path.name.startswith(".") and path.suffix in ("", ".list"):
                stat = path.stat()
                files[path.name] = stat.st_mtime_ns, stat.st_ino
        if files == self._files:
            return False
        self._files = files
        try:
            self.signed, trust = self.folder.signed(), self.folder.trust()
            for kept in self.trust.lists.values():  # a list of before, put back, counts for nothing
                now = trust.lists.get(kept.kind)
                if now is None or now.serial < kept.serial:
                    trust = TrustStore(trust.owner, [one for one in trust.lists.values() if one.kind is not kept.kind])
                    trust.take(kept)
            self.trust = trust
        except (UsageError, NotTakenError) as error:
            log.error("what is in %s now is not taken: %s", self.folder.path, error)
            return False
        return True

    def judge(self, signed: SignedCertificate, role: Role) -> Judgement:
        """Return what is thought of a certificate now."""
        return self.trust.judge(signed, int(self.wall()), role)

    def config(self, peer: Role) -> NegotiationConfig:
        """Return what negotiations with a peer of this role are configured with."""
        return NegotiationConfig(self.secrets, self.signed, lambda signed: self.judge(signed, peer), self.profile)

    def take_list(self, data: bytes) -> bool:
        """Take a list of the owner's, on the disk first; return whether it is new. Raises `NotTakenError`, and
        `UsageError` where it can't be written."""
        try:
            new = TrustList.decode(data)
        except MalformedError as error:
            raise NotTakenError(str(error)) from None
        trial = TrustStore(self.trust.owner, self.trust.lists.values())
        if not trial.take(new):
            return False
        self.folder.put_list(new)
        return self.trust.take(new)

    def take_piece(self, piece: ListPiece) -> tuple[Answer, bool]:
        """Take a piece of a list; return the answer to it, and whether it completed a list that is new."""
        try:
            whole = self._pieces.take(piece)
            is_new = whole is not None and self.take_list(whole)
        except (MalformedError, NotTakenError, UsageError) as error:
            self._told.warn(f"a list is not taken: {error}")  # it comes again with each connection
            return ErrorMessage(ErrorCode.REFUSED, str(error)[:80]), False
        return Acknowledgement(), is_new
