"""What the cloud's REST takes, declared once: parameters, and operations with the role that each needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from bt_selfsecure.iot.cloud import api_types as types
from bt_selfsecure.iot.cloud.tokens import NAME_PATTERN, NAME_SAID, TokenRole
from bt_selfsecure.node.api_operations import NoQuery, Operation
from bt_selfsecure.node.api_types import Health, Pattern, Range

MemberId = Annotated[str, Pattern("[0-9a-f]{32}|", "32 hexadecimal digits, in small letters")]
CommandId = Annotated[str, Pattern("[0-9a-f]{16}|", "16 hexadecimal digits, in small letters")]
Argument = Annotated[str, Pattern("[ -~]{1,1024}", "1 to 1024 printable ASCII letters")]
TokenName = Annotated[str, Pattern(NAME_PATTERN, NAME_SAID)]
Limit = Annotated[int, Range(1, 500)]
Time = Annotated[int, Range(0, 2**53 - 1)]
Number = Annotated[int, Range(0, 2**53 - 1)]


@dataclass(frozen=True, slots=True)
class DevicesQuery:
    """Says which devices."""

    gateway: MemberId = ""
    """Id of a gateway: those that are connected to it."""
    after: MemberId = ""
    """`next` of the answer before."""
    limit: Limit = 100
    """At most so many."""


@dataclass(frozen=True, slots=True)
class ReadingsQuery:
    """Says which readings."""

    from_ms: Time = 0
    """Not before this time."""
    to_ms: Time = 2**53 - 1
    """Not after this time."""
    before: Number = 2**53 - 1
    """`next` of the answer before."""
    limit: Limit = 100
    """At most so many."""


@dataclass(frozen=True, slots=True)
class ConnectionsQuery:
    """Says which connections."""

    at_ms: Time = 0
    """Those that stood at this time; 0: all."""
    member: MemberId = ""
    """Of this device or gateway."""
    before: Number = 2**53 - 1
    """`next` of the answer before."""
    limit: Limit = 100
    """At most so many."""


@dataclass(frozen=True, slots=True)
class AlertsQuery:
    """Says which alerts."""

    unseen: bool = False
    """Those alone that nobody has seen."""
    before: Number = 2**53 - 1
    """`next` of the answer before."""
    limit: Limit = 100
    """At most so many."""


@dataclass(frozen=True, slots=True)
class AskQuery:
    """Says what is asked of a device."""

    sensor: str = ""
    """One sensor; empty: all."""


@dataclass(frozen=True, slots=True)
class CommandQuery:
    """Says what a device is to do."""

    name: str
    """The command's, 1 to 32 bytes."""
    argument: Argument = "null"
    """Its value as JSON, as in true, 21.5 or a text in quotes; what is none of these is the text."""
    id: CommandId = ""
    """16 hexadecimal digits of your own choice: what is given again under the same is done once."""


@dataclass(frozen=True, slots=True)
class TokenQuery:
    """Says what a new token is."""

    name: TokenName
    """Who gets it."""
    role: Literal["viewer", "operator", "owner"] = "viewer"
    """What it may. A partner's is made by `bt-selfsecure cloud token`."""
    days: Annotated[int, Range(1, 3650)] = 90
    """How long it counts."""


@dataclass(frozen=True, slots=True)
class CloudOperation:
    """Is an operation, and the least role that may."""

    operation: Operation
    role: TokenRole | None = TokenRole.VIEWER
    """None: whoever comes."""


def _get(path: str, summary: str, answer: Any, said: str, query: type = NoQuery, errors: Any = None) -> Operation:
    return Operation("GET", path, summary, answer, said, query, errors or {})


NO_DEVICE: Final = "There is no such device."
NO_NAME: Final = "There is no such device, or none can have a sensor or command of this name."
AWAY: Final[Mapping[int, str]] = {
    404: NO_NAME,
    409: "A command with this id was given already, and is another or has no answer.",
    502: "The device answers with an error.",
    504: "It is not connected, or does not answer.",
}
ASKED: Final = {status: doc for status, doc in AWAY.items() if status != 409}
PARTNER: Final = TokenRole.PARTNER
OPERATIONS: Final[Mapping[str, CloudOperation]] = {
    "health": CloudOperation(
        _get(
            "/v1/health",
            "Whether the cloud can do its work; with status 503 where something is in its way",
            Health,
            "It can.",
        ),
        None,
    ),
    "openapi": CloudOperation(_get("/v1/openapi.json", "This description", dict, "OpenAPI 3.1."), None),
    "network": CloudOperation(_get("/v1/network", "The network as a whole", types.Network, "Counts."), PARTNER),
    "gateways": CloudOperation(
        _get("/v1/gateways", "Gateways, connected or not", types.GatewayList, "Gateways."), PARTNER
    ),
    "devices": CloudOperation(
        _get("/v1/devices", "Devices, with their newest readings", types.DeviceList, "Devices.", DevicesQuery), PARTNER
    ),
    "device": CloudOperation(
        _get("/v1/devices/{device}", "One device", types.DeviceInfo, "The device.", errors={404: NO_DEVICE}), PARTNER
    ),
    "readings": CloudOperation(
        _get(
            "/v1/devices/{device}/readings",
            "What its sensors have said",
            types.ReadingList,
            "Readings.",
            ReadingsQuery,
            {404: NO_DEVICE},
        ),
        PARTNER,
    ),
    "connections": CloudOperation(
        _get(
            "/v1/connections",
            "The structure of the network, now and before: who was connected to whom, from when to when",
            types.ConnectionList,
            "Connections.",
            ConnectionsQuery,
        ),
        PARTNER,
    ),
    "alerts": CloudOperation(_get("/v1/alerts", "Alerts", types.AlertList, "Alerts.", AlertsQuery), PARTNER),
    "seen": CloudOperation(
        Operation(
            "POST",
            "/v1/alerts/{number}/seen",
            "Somebody has seen this alert",
            None,
            "Noted, now or before.",
            errors={404: "There is no such alert."},
        ),
        TokenRole.OPERATOR,
    ),
    "ask": CloudOperation(
        Operation(
            "POST",
            "/v1/devices/{device}/ask",
            "Read a device's sensors now",
            types.SensorsNow,
            "What they say.",
            AskQuery,
            ASKED,
        ),
        TokenRole.OPERATOR,
    ),
    "command": CloudOperation(
        Operation(
            "POST",
            "/v1/devices/{device}/commands",
            "Have a device do something, once",
            types.CommandDone,
            "What became of it.",
            CommandQuery,
            AWAY,
        ),
        TokenRole.OPERATOR,
    ),
    "commands": CloudOperation(
        _get(
            "/v1/devices/{device}/commands",
            "Commands that were given to a device",
            types.CommandList,
            "Commands.",
            errors={404: NO_DEVICE},
        )
    ),
    "trust": CloudOperation(_get("/v1/trust", "Whom the owner trusts", types.TrustState, "What its lists say.")),
    "take_list": CloudOperation(
        Operation(
            "POST",
            "/v1/trust/lists",
            "Bring a list that the owner has signed; it goes to all gateways at once",
            types.ListTaken,
            "It is on the disk.",
            errors={
                409: "It is no list of the owner's, or older than the one that is here.",
                413: "No list is that long.",
            },
            body="The list, as `iotcrypto trust` and `iotcrypto revoke` write it.",
        ),
        TokenRole.OWNER,
    ),
    "tokens": CloudOperation(_get("/v1/tokens", "Tokens", types.TokenList, "Tokens."), TokenRole.OWNER),
    "add_token": CloudOperation(
        Operation(
            "POST",
            "/v1/tokens",
            "Make a token",
            types.NewToken,
            "The token.",
            TokenQuery,
            {409: "There is a token of this name."},
        ),
        TokenRole.OWNER,
    ),
    "revoke_token": CloudOperation(
        Operation(
            "DELETE",
            "/v1/tokens/{name}",
            "Let a token count no more",
            None,
            "It does not.",
            errors={404: "There is no such token."},
        ),
        TokenRole.OWNER,
    ),
    "metrics": CloudOperation(
        Operation(
            "GET", "/v1/metrics", "Figures, for Prometheus", str, "Text format 0.0.4.", NoQuery, media="text/plain"
        )
    ),
}
