"""What is due with a peer: is there a link, is it alive, is there a key, is it good? Part of `PeerMachine`."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.node.haoxiao.key_agreement import KeyAgreement
from bt_selfsecure.node.haoxiao.peer_events import PeerConfig
from bt_selfsecure.node.haoxiao.peer_links import LinkState, PeerLinks
from bt_selfsecure.node.haoxiao.peer_session import PeerSession

LOOK_S: Final = 5.0
"""Seconds between two looks at a peer that is linked, where nothing asks for one sooner."""
NO_COMMON_KEY_S: Final = 30.0
"""Two ends that are linked for so many seconds and have not found a common key need a new one."""


class PeerUpkeep:
    """Looks at what there is with a peer, and has done what it lacks."""

    def __init__(
        self, config: PeerConfig, links: PeerLinks, agreement: KeyAgreement, session: PeerSession, now: float
    ) -> None:
        self._config, self._links, self._agreement, self._session = config, links, agreement, session
        self._asunder_since = now
        self.look_at: float | None = None
        """When to look again, where nothing asks for it sooner."""

    def begin_together(self, now: float) -> None:
        """Take note that the two ends have a new link, or a new key: they have all the time to find a common one."""
        self._asunder_since = now

    @property
    def may_dial(self) -> bool:
        """Return whether the peer may be dialled."""
        return self._links.own is not None and self._config.dial != "never"

    @property
    def _wants_to_dial(self) -> bool:
        if not self.may_dial:
            return False
        if self._config.dial == "always" or self._agreement.is_lower:
            return True
        return bool(self._session.outbox) or self._agreement.is_wanted

    def look(self, now: float, *, disk_works: bool) -> None:
        """Dial, give up a dead link, agree on a key: what is due."""
        links, agreement, session = self._links, self._agreement, self._session
        line = links.session_line
        if line is None:
            self.look_at = None
            if links.state is LinkState.UNLINKED and self._wants_to_dial:
                if now >= links.redial.until:
                    links.dial(now)
                else:
                    self.look_at = links.redial.until
            return
        if session.answered_at > line.since:
            links.answered()
        if session.is_unreachable:
            links.give_up_if_dead(line, now)
        if session.is_agreed or agreement.is_under_way:
            self._asunder_since = now
        elif session.session and now - self._asunder_since > NO_COMMON_KEY_S:
            self._asunder_since = now
            agreement.hint("the two ends find no common key")
        if disk_works and not links.lacks_way and (self._config.asks or session.session or agreement.is_wanted):
            has_key, due = session.session is not None, session.is_due(now)
            agreement.consider(now, leads=line.dialled, linked_since=line.since, has_key=has_key, due=due)
        self.look_at = now + LOOK_S
        if now < agreement.retry.until < self.look_at:
            self.look_at = agreement.retry.until
