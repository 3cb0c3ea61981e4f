"""What people and programs are told of a peer: never a secret."""

from __future__ import annotations

import enum
from typing import Any, Final

from bt_selfsecure.node import ages
from bt_selfsecure.node.haoxiao.key_agreement import KeyAgreement
from bt_selfsecure.node.haoxiao.key_in_use import age_of
from bt_selfsecure.node.haoxiao.key_table import RESPONDING
from bt_selfsecure.node.haoxiao.peer_machine import PeerMachine
from bt_selfsecure.node.haoxiao.session_table import SessionState
from bt_selfsecure.node.links import OpenLink


class PeerState(enum.Enum):
    """Names the peer's state in the words of status."""

    NO_ADAPTER = "no adapter"
    NO_LINK = "not connected"
    NO_KEY = "connected, no key"
    ESTABLISHING = "establishing"
    SYNCHRONISING = "synchronising"
    CONNECTED = "connected"
    UNREACHABLE = "unreachable"
    DISK = "waiting for the disk"


_OF_SESSION: Final = {
    SessionState.NO_KEY: PeerState.NO_KEY,
    SessionState.SYNCHRONISING: PeerState.SYNCHRONISING,
    SessionState.SYNCHRONISING_UNREACHABLE: PeerState.UNREACHABLE,
    SessionState.CONNECTED: PeerState.CONNECTED,
    SessionState.UNREACHABLE: PeerState.UNREACHABLE,
}


def state_of(machine: PeerMachine) -> PeerState:
    """Return what a peer's machine is doing, or waits for."""
    if machine.links.own is None:
        return PeerState.NO_ADAPTER
    if not machine.disk_is_well:
        return PeerState.DISK
    if machine.agreement.is_under_way:
        return PeerState.ESTABLISHING
    if machine.links.session_line is None:
        return PeerState.NO_LINK
    return _OF_SESSION[machine.session.state]


def status_of(machine: PeerMachine, now: float) -> dict[str, Any]:
    """Return the fields of `Peer` in api_peer_types.py that follow from its machine."""
    session, rejections = machine.session, machine.agreement.rejections
    troubles = [session.trouble, machine.agreement.trouble]
    if not session.is_agreed:
        troubles.reverse()  # why there is no key in common tells more than that nobody answers
    if session.session:
        rejections.update(session.session.rejections)
    return {
        "state": state_of(machine).value,
        "trouble": next(filter(None, (machine.links.trouble, *troubles)), ""),
        "key": told_key(session.key.facts, now) if session.key.facts else None,
        "session": session.status,
        "trust": told_trust(machine.trust.told(now)),
        "rejections": {reason.value: count for reason, count in rejections.items() if count},
        "progress": progress_of(machine.agreement),
    }


def progress_of(agreement: KeyAgreement) -> dict[str, int | None] | None:
    """Return how many burst packets were sent, or heard, and how many must be heard for a key."""
    if agreement.initiator:
        sent = agreement.initiator.sent - len(agreement.burst)
        return {"sent": sent, "heard": None, "needed": agreement.initiator.config.n_r}
    if agreement.state in RESPONDING and agreement.responder:
        return {"sent": None, "heard": agreement.responder.received, "needed": agreement.responder.config.n_r}
    return None


def told_trust(facts: dict[str, Any]) -> dict[str, Any]:
    """Return `Trust` in api_peer_types.py."""
    told = {name: fact for name, fact in facts.items() if not name.endswith("_age")}
    for name in ("confirmed", "differed", "first", "refused"):
        told |= {f"{name}_{of}": value for of, value in ages.told(facts[f"{name}_age"]).items()}
    return told


def told_link(line: OpenLink, now: float) -> dict[str, Any]:
    """Return `Link` in api_peer_types.py."""
    traits = line.link.traits
    return {
        "bearer": line.bearer,
        "losses_visible": traits.losses_visible,
        "encrypted": traits.link_encrypted,
        "path": list(line.link.path),
        "second_path": list(line.link.second_path),
        "round_trip_s": line.link.round_trip,
    } | ages.told(now - line.since)


def told_key(facts: dict[str, Any], now: float) -> dict[str, Any]:
    """Return `Key` in api_peer_types.py, by what is known about it."""
    return {name: fact for name, fact in facts.items() if name not in ("begun_at", "born")} | ages.told(
        age_of(facts, now)
    )
