"""What the cloud's REST says, declared once. `openapi.json` is made of this file and api_operations.py
(docs/generate.py); a type's docstring and the sentence under each field are what programs' authors read.

Ids are 32 hexadecimal digits; times are milliseconds since 1970.
"""

from __future__ import annotations

from typing import TypedDict

from bt_selfsecure.protocols.iotcrypto.transmission_messages import Measured


class TrustInfo(TypedDict):
    """Says what is thought of a certificate now, by the owner's lists."""

    trusted: bool
    """Whether it is."""
    why: str
    """A sentence."""
    until: int
    """Seconds since 1970 until which that stands if no list changes; 0 where it is not trusted."""
    signer: str
    """Id of the company on whose word it rests; else empty."""


class Network(TypedDict):
    """Describes the network as a whole."""

    name: str
    """The network's."""
    cloud: str
    """Name of the cloud's certificate."""
    owner: str
    """Name of the company that owns it."""
    now_ms: int
    """The cloud's clock."""
    gateways: int
    """Connected ones."""
    devices: int
    """Connected ones."""
    unseen_alerts: int
    """Alerts that nobody has said to have seen."""
    problems: list[str]
    """Each with its remedy, one sentence."""
    role: str
    """Of the token: partner, viewer, operator, owner."""


class GatewayInfo(TypedDict):
    """Describes a gateway."""

    id: str
    """Its certificate's."""
    name: str
    """As its certificate says."""
    expires: int
    """When the certificate does, in seconds since 1970."""
    connected: bool
    """To this cloud."""
    since_ms: int
    """Since when, or when it left."""
    reason: str
    """Why it left; else empty."""
    devices: int
    """Devices that are connected to it."""
    trust: TrustInfo
    """Of its certificate."""


class GatewayList(TypedDict):
    """Holds gateways."""

    gateways: list[GatewayInfo]
    """By name."""


class DeviceInfo(TypedDict):
    """Describes a device."""

    id: str
    """Its certificate's."""
    name: str
    """As its certificate says; empty while no certificate of it has come."""
    expires: int
    """When the certificate does, in seconds since 1970."""
    gateway: str
    """Id of the gateway to which it is connected, or was last."""
    connected: bool
    """Whether it is connected to that."""
    since_ms: int
    """Since when, or when it left."""
    reason: str
    """Why it left; else empty."""
    read_ms: int
    """When its sensors were read last; 0: never."""
    readings: dict[str, Measured]
    """What each of them said last."""
    trust: TrustInfo
    """Of its certificate."""


class DeviceList(TypedDict):
    """Holds devices."""

    devices: list[DeviceInfo]
    """By id."""
    next: str
    """Give it as `after` for more; empty where there are no more."""


class Reading(TypedDict):
    """Holds what sensors said at one time."""

    number: int
    """Rising in the order in which the cloud had them."""
    time_ms: int
    """When the gateway had it."""
    gateway: str
    """Id of the gateway that brought it."""
    readings: dict[str, Measured]
    """By sensor."""


class ReadingList(TypedDict):
    """Holds readings."""

    readings: list[Reading]
    """The newest first."""
    next: int
    """Give it as `before` for older ones; 0 where there are none."""


class ConnectionInfo(TypedDict):
    """Says from when to when something was connected."""

    number: int
    """Rising."""
    member: str
    """Id of the device or gateway."""
    name: str
    """Its name."""
    gateway: str
    """Id of the gateway; empty for a gateway, which is connected to the cloud."""
    joined_ms: int
    """Since when."""
    left_ms: int | None
    """Until when; null: it is connected."""
    reason: str
    """Why it left; else empty."""


class ConnectionList(TypedDict):
    """Holds connections."""

    connections: list[ConnectionInfo]
    """The newest first."""
    next: int
    """Give it as `before` for older ones; 0 where there are none."""


class Alert(TypedDict):
    """Holds what a device told of its own accord."""

    number: int
    """Rising in the order in which the cloud had them."""
    device: str
    """Id of the device."""
    name: str
    """Its name."""
    gateway: str
    """Id of the gateway that brought it."""
    time_ms: int
    """By the device's clock."""
    received_ms: int
    """By the cloud's."""
    text: str
    """What it said."""
    value: Measured
    """With which value."""
    seen_by: str | None
    """Name of the token by which somebody said to have seen it; null: nobody."""
    seen_ms: int | None
    """When."""


class AlertList(TypedDict):
    """Holds alerts."""

    alerts: list[Alert]
    """The newest first."""
    next: int
    """Give it as `before` for older ones; 0 where there are none."""


class SensorsNow(TypedDict):
    """Holds what a device's sensors say now."""

    readings: dict[str, Measured]
    """By sensor."""


class CommandDone(TypedDict):
    """Says what became of a command."""

    id: str
    """Of the command, 16 hexadecimal digits: given again, it is not done again."""
    done: bool
    """Whether it was."""
    text: str
    """What the device's program said."""


class CommandInfo(TypedDict):
    """Holds a command that was given."""

    id: str
    """16 hexadecimal digits."""
    who: str
    """Name of the token."""
    name: str
    """The command's."""
    argument: Measured
    """With which value."""
    asked_ms: int
    """When."""
    done: bool | None
    """Whether it was done; null: no answer came."""
    text: str
    """What the device's program said."""


class CommandList(TypedDict):
    """Holds commands."""

    commands: list[CommandInfo]
    """The newest first, at most 100."""


class Party(TypedDict):
    """Describes a company's certificate."""

    id: str
    """The certificate's."""
    name: str
    """The company's."""
    expires: int
    """Seconds since 1970."""


class TrustState(TypedDict):
    """Holds what the owner says."""

    owner: Party
    """Who says it."""
    serials: dict[str, int]
    """Of each list that is here: seconds since 1970 at which it was signed."""
    parties: list[Party]
    """Whose signatures count beside the owner's."""
    revoked: list[str]
    """Ids that count no more."""


class ListTaken(TypedDict):
    """Says what became of a trust list."""

    new: bool
    """False: it was here already."""


class TokenInfo(TypedDict):
    """Describes a token, without its secret."""

    name: str
    """Who has it."""
    role: str
    """partner, viewer, operator, owner."""
    expires_ms: int
    """Until when it counts."""


class TokenList(TypedDict):
    """Holds tokens."""

    tokens: list[TokenInfo]
    """By name."""


class NewToken(TypedDict):
    """Holds a new token: this once, as the cloud keeps its hash alone."""

    secret: str
    """The token's text, for the header `Authorization: Bearer`."""
