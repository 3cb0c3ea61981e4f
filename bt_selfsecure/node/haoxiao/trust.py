"""Whether a peer is still the one that it was, and who says so: confirmation, and keys from nowhere. Part of
`PeerMachine`.

A key has continuity where the key before it is mixed in, which only who had that one can do. A *confirmed* peer gets no
key without it, unless a person who waits for one allows it: for this one wish, and only the key that is taken on it
ends the confirmation. An *unconfirmed* one does, as with ssh's first use, so that it heals by itself: but each such key
in the place of another, a key from nowhere, counts, is told, and puts off the next one. `paper` has no continuity: of
its peers nothing is confirmed, and nothing counted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, Literal

from bt_selfsecure.node.haoxiao.confirmation import DIFFER, Confirmation, Trust
from bt_selfsecure.node.haoxiao.peer_events import Level, Outputs, PeerConfig
from bt_selfsecure.node.metrics import PeerCounters
from bt_selfsecure.protocols.haoxiao.events import Established
from bt_selfsecure.sansio.back_off import doubled

FIRST_WAIT_S: Final = 60.0
LAST_WAIT_S: Final = 3600.0
"""From a key from nowhere to the next: the first of these, and what doubles with each up to the last."""
DAY_S: Final = 86_400.0
"""After so long without one the waits begin anew."""


class PeerTrust:
    """Asked before a key is agreed on, and told of each."""

    def __init__(self, config: PeerConfig, kept: Trust, counts: PeerCounters, out: Outputs) -> None:
        self.kept = kept
        self._config, self._counts, self._out = config, counts, out
        self._put_off_until, self._in_a_row = 0.0, 0
        self.allows_one = False
        """A person waits for a key, who allows it to be without continuity."""
        self._forget_refused()

    def _forget_refused(self) -> None:
        self._refused, self._refused_at = 0, None  # type: int, float | None
        self._refused_why: Literal["no continuity", "restored", "too soon"] | None = None

    @property
    def is_confirmed(self) -> bool:
        """Whether a key takes continuity, until a person says otherwise."""
        return self.kept.confirmed is not None

    def requires_continuity(self, now: float, *, asked: bool) -> bool:
        """Return whether a key without it is to be refused now; `asked`: a person here waits for one."""
        return not self.allows_one and (self.is_confirmed or (not asked and now < self._put_off_until))

    def admits(self, event: Established) -> bool:
        """Return whether this key may be taken: while it was agreed on the peer may have been confirmed, or who allowed
        it has ceased to wait."""
        return event.continuity or not self.is_confirmed or self.allows_one

    def took(self, event: Established, now: float, *, replaces: bool) -> None:
        """Note that a key was agreed on; `replaces`: there was one."""
        if self.is_confirmed and not event.continuity:
            self._doubt(now)
        if self.kept.first is None:
            self.kept = replace(self.kept, first=now)
        if replaces and not event.continuity:
            self._count(now)
        if event.authenticated and self._config.key_proves and not self.is_confirmed:
            how = Confirmation.BOOTSTRAPPED if self._config.is_bootstrapped else Confirmation.AUTHENTICATION_KEY
            self.confirm(how, "", now)

    def _count(self, now: float) -> None:
        if now > self._put_off_until + DAY_S:
            self._in_a_row = 0
        self._put_off_until = now + doubled(FIRST_WAIT_S, LAST_WAIT_S, self._in_a_row)
        self._in_a_row += 1
        self.kept = replace(self.kept, nowhere=self.kept.nowhere + 1)
        self._counts.keys_from_nowhere += 1
        lost = "this node's state was restored" if self.kept.restored else "the peer has lost its state"
        self._out.log(
            Level.WARNING,
            f"a key from nowhere: the key before it is not mixed in, so {lost}, or it is another one. Compare: "
            f"bt-selfsecure establish {self._config.name}",
            "from-nowhere",
        )

    def refused(self, now: float) -> str:
        """Note that a key without continuity was refused; return a sentence with the remedy."""
        self._counts.refused_keys += 1
        self._refused += 1
        self._refused_at = now
        name = self._config.name
        if self.is_confirmed and self.kept.restored:
            self._refused_why = "restored"
            return f"a new key is refused: {self.how_restored}"
        if self.is_confirmed:
            self._refused_why = "no continuity"
            return (
                "a new key is refused: the other end has not the one in use, so it is not the peer, or has lost "
                f"its state; then bt-selfsecure establish {name} --without-continuity"
            )
        self._refused_why = "too soon"
        return (
            "a key from nowhere is put off, since there were others lately: it comes by itself within an hour or so, "
            f"and bt-selfsecure establish {name} takes it at once"
        )

    def confirm(self, how: Confirmation, by: str, now: float) -> None:
        """Note that it is the one that is meant."""
        differed = {} if how is Confirmation.STRING else self._differed
        self.kept = Trust(how, by, now, first=self.kept.first, **differed)
        self._begin_anew()
        whom = f" by {by}" if by else ""
        self._out.log(Level.INFO, f"confirmed ({how.value}){whom}", "confirmed")

    def differ(self, by: str, now: float) -> None:
        """Note that a person has compared, and the strings differ."""
        self.kept = replace(self.kept, differed_by=by, differed_at=now)
        self._out.log(Level.WARNING, DIFFER, "strings-differ")

    def _doubt(self, now: float) -> None:
        """Note that it may be another one: a person has allowed the key that is taken."""
        self._out.log(Level.WARNING, "not confirmed any more: a person here allows a key from nowhere", "doubted")
        self.kept = Trust(first=now, restored=self.kept.restored, **self._differed)
        self._begin_anew()

    @property
    def _differed(self) -> dict[str, Any]:
        return {"differed_by": self.kept.differed_by, "differed_at": self.kept.differed_at}

    def _begin_anew(self) -> None:
        self._put_off_until, self._in_a_row = 0.0, 0
        self._forget_refused()

    @property
    def how_restored(self) -> str:
        """Return what a person can do where this end has an earlier state of its own than the peer may have of it."""
        name = self._config.name
        return (
            f"this node's state was restored, so {name} may rightly have a newer key. If so: bt-selfsecure establish "
            f"{name} --without-continuity, there too, meanwhile, if it has confirmed this node, and compare again"
        )

    def in_step(self) -> bool:
        """Take note that the two have found together: what this end has of it is not too old. Return whether that is
        news."""
        was_restored = self.kept.restored
        self.kept = replace(self.kept, restored=False)
        return was_restored

    def told(self, now: float) -> dict[str, Any]:
        """Return it as `Trust` in api_peer_types.py, with ages in the place of times."""
        kept = self.kept
        return {
            "confirmed": kept.confirmed.value if kept.confirmed else None,
            "by": kept.by,
            "confirmed_age": None if kept.at is None else now - kept.at,
            "first_age": None if kept.first is None else now - kept.first,
            "differed_by": kept.differed_by,
            "differed_age": None if kept.differed_at is None else now - kept.differed_at,
            "keys_from_nowhere": kept.nowhere,
            "shared_key": self._config.shares_authentication_key,
            "refused": self._refused,
            "refused_why": self._refused_why,
            "refused_age": None if self._refused_at is None else now - self._refused_at,
        }
