"""What of a peer goes to the journal, and what comes back from it, damaged or not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from bt_selfsecure.node import ages
from bt_selfsecure.node.haoxiao.confirmation import Confirmation, Trust
from bt_selfsecure.node.haoxiao.key_in_use import age_of
from bt_selfsecure.node.haoxiao.outbox import begins_message, ends_message
from bt_selfsecure.node.haoxiao.peer_events import (
    DropFragment,
    DropPieces,
    KeepFragment,
    KeepPiece,
    KeepState,
    Note,
    Stored,
)
from bt_selfsecure.node.journal import DamagedError, Journal
from bt_selfsecure.node.noted import PeerRow
from bt_selfsecure.protocols.haoxiao.exported import KeptGenerations
from bt_selfsecure.protocols.haoxiao.record import RecordError, SessionRecord

RESTORED: Final = "restored"
"""Whether the row was put back from a copy, and the two have not found together since."""
FACTS_S: Final = 1.0
"""A wall clock that leaps is noticed so late."""

# --- in ---------------------------------------------------------------------------------------------------------------


def stored(journal: Journal, address: str, now: float) -> Stored:
    """Return all that is kept of this peer; what is no use without damaged rows is dropped, with the next commit."""
    fragments, dropped = stored_messages(journal, address)
    pieces = tuple(journal.partial(address))
    dropped += len(journal.damaged_of(address, "partial"))
    try:
        row = journal.peer(address)
        if row is None:
            return Stored(fragments=fragments, pieces=pieces, dropped=dropped)
        record = SessionRecord.from_json(row.record)
        *facts, trust, generations, restored = _facts(row.facts)
        key, offered = (_from_disk(of_one, now) for of_one in facts)
    except (DamagedError, RecordError) as error:
        dropped += 1 + bool(pieces)  # one that was under way to it, and one from it
        return Stored(damage=str(error), fragments=fragments, dropped=dropped)
    kept_trust = _trust(trust, restored, now)
    return Stored(record, key, offered, row.synchronised, "", fragments, pieces, dropped, kept_trust, generations)


def stored_messages(journal: Journal, address: str) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """Return the fragments that wait, without the messages of which one is damaged, and how many of those there are."""
    ours = {row.id for row in journal.damaged_of(address, "outbox") if row.peer}
    fragments: list[tuple[int, bytes]] = []
    dropped = 0
    for message in _messages(journal.outbox(address)):
        whole = [(number, fragment) for number, fragment in message if fragment is not None]
        if len(whole) == len(message) and _is_to_its_end(whole):
            fragments += whole
            continue
        dropped += bool(whole or ours.intersection(number for number, _ in message))
        for number, _ in whole:
            journal.delete(address, "outbox", number)
    return tuple(fragments), dropped


def _is_to_its_end(fragments: list[tuple[int, bytes]]) -> bool:
    """A message's fragments get their numbers one after the other: else there is one that the disk does not give."""
    (first, _), (last, end) = fragments[0], fragments[-1]
    return last - first == len(fragments) - 1 and ends_message(end)


def _messages(rows: Iterable[tuple[int, bytes | None]]) -> Iterator[list[tuple[int, bytes | None]]]:
    """The rows of each message. Of a damaged one only its place is known: it goes with those beside it."""
    message: list[tuple[int, bytes | None]] = []
    ended = True
    for number, fragment in rows:
        if message and (ended or (fragment is not None and begins_message(fragment))):
            yield message
            message = []
        message.append((number, fragment))
        ended = fragment is not None and ends_message(fragment)
    if message:
        yield message


def _facts(text: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], KeptGenerations, bool]:
    """About the key in use, about a newer one, whether the peer is confirmed, the keys for other programs, and whether
    all that was put back from a copy. Raises `DamagedError`."""
    try:
        facts = json.loads(text)
        trust = facts.get("trust", {})
        known: dict[str, Any] = {"own_address": "", "shared": []}
        key, offered = ({**known, **facts[name]} if facts[name] else {} for name in ("key", "offered"))
        for of_one in filter(None, (key, offered)):
            of_one.setdefault("written", of_one["since"])  # an older version kept when it was agreed on, and no more
            of_one.update(since=float(of_one["since"]), written=float(of_one["written"]))
            int(of_one["begun_at"])
            of_one["shared"] = [{"peer": str(one["peer"]), "missed": int(one["missed"])} for one in of_one["shared"]]
            if not trust:  # an older version had a string for each key, whether a person had asked for it or not
                of_one.update(sas="", continuity=False)
        if trust:
            Confirmation(trust["confirmed"]) if trust["confirmed"] else None
            trust.update(by=str(trust["by"]), nowhere=int(trust["nowhere"]))
            differed = trust.setdefault("differed", None)  # an older version kept none, and wrote a number as null
            for moment in filter(None, (trust["at"], trust["first"], differed and differed["at"])):
                moment.update(since=float(moment["since"]), written=float(moment["written"]))
            trust["differed"] = differed and {"by": str(differed["by"]), "at": differed["at"]}
        exported = facts.get("exported")
        generations = KeptGenerations.from_fields(exported) if exported else KeptGenerations()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise DamagedError("what was kept about this peer's key is damaged: a new one is agreed on by itself") from None
    return key, offered, trust, generations, facts.get(RESTORED) is True


def _from_disk(facts: dict[str, Any], now: float) -> dict[str, Any]:
    if not facts:
        return {}
    age = ages.restored(facts.pop("since"), facts.pop("written"))
    return facts | {"born": None if age is None else now - age}


def _trust(facts: dict[str, Any], restored: bool, now: float) -> Trust:
    if not facts:
        return Trust(restored=restored)
    at, first = (_moment(facts[name], now) for name in ("at", "first"))
    how = Confirmation(facts["confirmed"]) if facts["confirmed"] else None
    differed = facts["differed"] or {"by": None, "at": None}
    return Trust(how, facts["by"], at, differed["by"], _moment(differed["at"], now), first, facts["nowhere"], restored)


def _moment(moment: dict[str, float] | None, now: float) -> float | None:
    age = ages.restored(**moment) if moment else None
    return None if age is None else now - age


# --- out --------------------------------------------------------------------------------------------------------------


class StateRows:
    """Makes the rows of one peer's state. The text of the facts, with its look at the wall clock, is made anew once in
    `FACTS_S` only, where nothing in it has changed: it says from when on the key is, which stays the same."""

    def __init__(self) -> None:
        self._of: tuple[dict[str, Any], dict[str, Any], Trust, KeptGenerations] | None = None
        self._facts = ""
        self._until = 0.0

    def row(self, state: KeepState, now: float) -> PeerRow:
        """Return the row of a state, at this loop time."""
        of = state.key, state.offered, state.trust, state.generations
        if now >= self._until or of != self._of:
            self._of = dict(state.key), dict(state.offered), state.trust, state.generations
            self._until = now + FACTS_S
            key, offered, trust = _kept(state.key, now), _kept(state.offered, now), _kept_trust(state.trust, now)
            facts = {"key": key, "offered": offered, "trust": trust, RESTORED: state.trust.restored}
            self._facts = json.dumps(facts | {"exported": state.generations.to_fields()})
        return PeerRow(state.record.to_json(), self._facts, state.synchronised)


def note(journal: Journal, address: str, output: Note, rows: StateRows) -> None:
    """Note what a peer's machine wants kept, for the next commit."""
    match output:
        case KeepState():
            journal.keep(address, lambda: rows.row(output, journal.commit_at))
        case KeepFragment():
            journal.insert(address, "outbox", address, output.fragment, number=output.number)
        case DropFragment():
            journal.delete(address, "outbox", output.number)
        case KeepPiece():
            journal.insert(address, "partial", address, output.piece)
        case DropPieces():
            journal.write(address, "DELETE FROM partial WHERE peer = ?", address)


def _kept(facts: dict[str, Any], now: float) -> dict[str, Any]:
    """As they go to the disk, where no loop time means anything."""
    if not facts:
        return {}
    return {name: value for name, value in facts.items() if name != "born"} | ages.kept(age_of(facts, now))


def _kept_trust(trust: Trust, now: float) -> dict[str, Any]:
    times = (trust.at, trust.first, trust.differed_at)
    at, first, at_differed = (None if time is None else ages.kept(now - time) for time in times)
    confirmed = trust.confirmed.value if trust.confirmed else ""
    differed = None if trust.differed_by is None else {"by": trust.differed_by, "at": at_differed}
    return {
        "confirmed": confirmed,
        "by": trust.by,
        "at": at,
        "first": first,
        "nowhere": trust.nowhere,
        "differed": differed,
    }


def marked_restored(facts: str) -> str:
    """Return the facts of a row that is put back from a copy: the peer may have gone on since that was made. Raises
    `DamagedError`."""
    _facts(facts)
    return json.dumps(json.loads(facts) | {RESTORED: True})
