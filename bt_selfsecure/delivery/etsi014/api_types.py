"""What a KME takes and says, declared once: the data formats of ETSI GS QKD 014 V1.1.1, section 6, with our bounds.
`openapi.json`, which is served at /api/v1/openapi.json, is made from this file (docs/generate.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple, NotRequired, TypedDict

KEY_BITS, LEAST_BITS, MOST_BITS, MOST_KEYS = 256, 64, 1024, 128
"""Of a key where nothing is said, at least and at most; and keys a request."""
OCTET_BITS: Final = 8


class Keywords(NamedTuple):
    """Bounds a value, in the words of JSON Schema."""

    of: dict[str, Any]

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return handler(schema) | self.of


KeyNumber = Annotated[int, Keywords({"minimum": 1, "maximum": MOST_KEYS, "default": 1})]
KeySize = Annotated[
    int,
    Keywords({"minimum": LEAST_BITS, "maximum": MOST_BITS, "multipleOf": OCTET_BITS, "default": KEY_BITS}),
]
Ids = Annotated[list[str], Keywords({"maxItems": 0})]
Mandatory = Annotated[list[dict[str, Any]], Keywords({"maxItems": 0})]
SomeIds = Annotated[list["KeyName"], Keywords({"minItems": 1, "maxItems": MOST_KEYS})]


class KmeStatus(TypedDict):
    """Status (6.1)."""

    source_KME_ID: str
    """This KME."""
    target_KME_ID: str
    """The node's peer at the other one; "unreachable" where no key can be had from it now."""
    master_SAE_ID: str
    """Who asks."""
    slave_SAE_ID: str
    """Whom it wants keys with."""
    key_size: int
    """Bits, where a request does not say."""
    stored_key_count: int
    """Keys that can be had now; 0 where the other KME is away."""
    max_key_count: int
    """What `stored_key_count` is at most."""
    max_key_per_request: int
    """Keys a request."""
    max_key_size: int
    """Bits."""
    min_key_size: int
    """Bits."""
    max_SAE_ID_count: int
    """Further slaves: 0, none."""


class KeyRequest(TypedDict, total=False):
    """Key request (6.2)."""

    number: KeyNumber
    """How many keys."""
    size: KeySize
    """Of each key, in bits."""
    additional_slave_SAE_IDs: Ids
    """Further slaves: not supported, so it is empty."""
    extension_mandatory: Mandatory
    """Extensions that must be heeded: none is known here, so it is empty."""
    extension_optional: list[dict[str, Any]]
    """Extensions that need not be heeded."""


class EtsiKey(TypedDict):
    """Describes one key."""

    key_ID: str
    """A UUID: says which key it is, and tells nothing of it."""
    key: str
    """In base64."""


class KeyContainer(TypedDict):
    """Key container (6.3)."""

    keys: list[EtsiKey]
    """As many as were asked for; never some of them."""


class KeyName(TypedDict):
    """Names one key."""

    key_ID: str
    """As the master was told it."""
    key_ID_extension: NotRequired[dict[str, Any]]
    """Not heeded."""


class KeyIds(TypedDict):
    """Key IDs (6.4)."""

    key_IDs: SomeIds
    """Each key comes once, and of several all or none."""
    key_IDs_extension: NotRequired[dict[str, Any]]
    """Not heeded."""


class KmeFault(TypedDict):
    """Error (6.5)."""

    message: str
    """In the words of the standard, where it has some."""
    details: NotRequired[list[dict[str, Any]]]
    """What was asked for, or is possible, by its name."""
