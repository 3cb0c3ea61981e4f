"""What SBI, SBR and SBS tell their drivers: taken one by one by `next_event()`."""

from __future__ import annotations

import enum
from dataclasses import field

from bt_selfsecure.protocols.bootstrap.records import Row
from bt_selfsecure.sansio.events import FrameRejected as FrameRejected  # as itself: `events` has all of them
from bt_selfsecure.sansio.events import Persist as Persist
from bt_selfsecure.sansio.value import value


@value
class NodeJoined:
    """Node and network share a new PSK. An SBI tells it when flight 8 proves it, the others when flight 5 does; in
    `paper` each when it has the PSK."""

    node_id: bytes
    controller_id: bytes
    psk: bytes = field(repr=False)


@value
class KeyTaken:
    """An SBI has taken flight 4: it repeats flight 5 until the network proves that it has the PSK."""

    node_id: bytes
    controller_id: bytes


class Refusal(enum.Enum):
    """Says why an SBS does not answer a flight 2 or 6 that its controller has sealed."""

    UNKNOWN_NODE = "no such node is enrolled: bootstrap enrol"
    REVOKED = "the node was revoked: bootstrap enrol --again lets it back in"
    OTHER_DOMAIN = "the node belongs to another domain than the controller"
    OTHER_CONTROLLER = "it names another controller than the one whose key it is under"
    CLOCK = "its time is not the server's: set the clocks of both right"
    OLD_TID = "its number is not above the last one of this node: a replay, or the controller has an old state back"
    NOT_THE_KEY = (
        "flight 1 was not made with the node's key: let the node show another (bootstrap join --anew), or if it has "
        "lost its key, bootstrap enrol --again"
    )
    NOTHING_OPEN = "flight 5 is of a join that is over, or of none"


@value
class NodeRefused:
    """Tells that an SBS refuses a node for whom a controller asks. A person must be told: the network shows nothing."""

    node_id: bytes
    controller_id: bytes
    reason: Refusal


@value
class NoAnswer:
    """An SBR has had no answer to flight 2 or 6, and repeats it no more: the SBS is away, or refuses the node."""

    node_id: bytes
    step: str


Event = FrameRejected | Persist[Row] | NodeJoined | KeyTaken | NodeRefused | NoAnswer
