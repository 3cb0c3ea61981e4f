"""The tables of cloud.md, and bt_selfsecure/iot/cloud/openapi.json in OpenAPI 3.1, which a cloud serves.

Both are made from bt_selfsecure/iot/cloud/api_types.py and api_operations.py: run docs/generate.py.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable
from typing import Any, Final

from openapi import Schemas, described_operation, document
from tables import table

from bt_selfsecure.iot.cloud import api_operations, api_types
from bt_selfsecure.node import api_types as node_types
from bt_selfsecure.node.api_types import Error
from bt_selfsecure.protocols.iotcrypto.limits import MOST_LIST_BYTES

for module in (api_types, api_operations):  # another page's program may have imported them before
    importlib.reload(module)

Json = dict[str, Any]
PARAMETERS: Final = {
    "device": "Id of a device: 32 hexadecimal digits.",
    "number": "Of an alert.",
    "name": "Of a token.",
}
OPEN: Final = {
    400: "The request can't be used.",
    429: "Too many requests; Retry-After says for how many seconds to wait.",
    500: "A fault.",
    503: "The cloud can't do it now.",
}
GUARDED: Final = OPEN | {401: "No token, or none that counts.", 403: "The token's role is too small."}


def described(name: str, of: Any, schemas: Schemas) -> Json:
    everywhere = OPEN if of.role is None else GUARDED
    made = described_operation(name, of.operation, schemas, everywhere, PARAMETERS, MOST_LIST_BYTES, Error)
    if of.role is None:
        made["security"] = []
    else:
        made["description"] = f"For the role {of.role.name.lower()} and those above it."
    return made


def description() -> Json:
    """Return the whole description, but for the version, which the cloud puts in."""
    document(api_types, node_types, api_operations)
    schemas, paths = Schemas(), dict[str, Json]()
    for name, each in api_operations.OPERATIONS.items():
        operation = each.operation
        paths.setdefault(operation.path, {})[operation.method.lower()] = described(name, each, schemas)
    schemes = {
        "token": {"type": "http", "scheme": "bearer", "description": "Made by `bt-selfsecure cloud token add`."},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bt-selfsecure cloud",
            "description": "The network of a company: gateways, devices, readings, alerts, commands, trust. A "
            "partner's token takes a proof beside it, by the key of its certificate: RFC 9449 (DPoP).",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.components.items())), "securitySchemes": schemes},
    }


def text() -> str:
    """Return the file's text."""
    return json.dumps(description(), indent=1, ensure_ascii=False) + "\n"


def operations() -> str:
    """Return a row for each operation, with its parameters and role."""
    rows = []
    for each in api_operations.OPERATIONS.values():
        of = each.operation
        query = ", ".join(f"`{field.name}`" for field in dataclasses.fields(of.query))
        rows.append(
            (f"`{of.method} {of.path}`", query, each.role.name.lower() if each.role is not None else "", of.summary)
        )
    return table(("", "parameters", "least role", ""), *rows)


PARTS: Final[dict[str, Callable[[], str]]] = {"operations": operations}
FILES: Final[dict[str, Callable[[], str]]] = {"../bt_selfsecure/iot/cloud/openapi.json": text}
