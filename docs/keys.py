"""bt_selfsecure/delivery/etsi014/openapi.json in OpenAPI 3.1, which a KME serves. It is made from
bt_selfsecure/delivery/etsi014/api_types.py: run docs/generate.py.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any, Final

from openapi import Schemas, document

from bt_selfsecure.delivery.etsi014 import api_types as types

importlib.reload(types)  # another page's program may have imported it before

Json = dict[str, Any]
SAE: Final = {
    "name": "SAE_ID",
    "in": "path",
    "required": True,
    "description": "The application (SAE) at the other KME: the slave of the keys that one makes, the master of those "
    "that one fetches.",
    "schema": {"type": "string", "minLength": 1},
}
SAID: Final = {
    400: "The request can't be used; in the words of the standard, where it has some.",
    401: "The certificate is of no application of this KME.",
    503: "No keys can be had now.",
}
ROOT: Final = "/api/v1/keys/{SAE_ID}/"


def operation(schemas: Schemas, name: str, summary: str, answer: type, body: type | None = None) -> Json:
    """Return an operation's description."""

    def content(kind: type) -> Json:
        return {"content": {"application/json": {"schema": schemas.of(kind)}}}

    answers = {str(status): {"description": doc} | content(types.KmeFault) for status, doc in SAID.items()}
    made: Json = {
        "operationId": name,
        "summary": summary,
        "parameters": [SAE],
        "responses": {"200": {"description": "As the standard has it."} | content(answer)} | answers,
    }
    if body:
        made["requestBody"] = {"required": body is types.KeyIds} | content(body)
    return made


def query(kind: type, *names: str) -> list[Json]:
    """Return the fields of these names as parameters of a query."""
    made = Schemas().query(kind)
    return [{**each, "required": each.get("required", False)} for each in made if each["name"] in names]


def description() -> Json:
    """Return the whole description, but for the version, which the KME puts in."""
    document(types)
    schemas = Schemas()
    status = operation(schemas, "getStatus", "What keys can be had", types.KmeStatus)
    get = operation(schemas, "getKey", "New keys, for the master", types.KeyContainer)
    get["parameters"] = [SAE, *query(types.KeyRequest, "number", "size")]
    post = operation(schemas, "postKey", "New keys, for the master", types.KeyContainer, types.KeyRequest)
    fetch = operation(schemas, "getKeyWithKeyIds", "One key by its name, for the slave", types.KeyContainer)
    fetch["parameters"] = [SAE, *query(types.KeyName, "key_ID")]
    several = operation(
        schemas, "postKeyWithKeyIds", "Keys by their names, for the slave", types.KeyContainer, types.KeyIds
    )
    itself: Json = {
        "operationId": "getOpenapi",
        "summary": "This description",
        "responses": {"200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {}}}}},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bt-selfsecure KME",
            "description": "ETSI GS QKD 014 V1.1.1: keys for applications (SAE), from the key of a node's session with "
            "its peer.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{"certificate": []}],
        "paths": {
            f"{ROOT}status": {"get": status},
            f"{ROOT}enc_keys": {"get": get, "post": post},
            f"{ROOT}dec_keys": {"get": fetch, "post": several},
            "/api/v1/openapi.json": {"get": itself},
        },
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "securitySchemes": {
                "certificate": {"type": "mutualTLS", "description": "Its common name is the application's id."}
            },
        },
    }


def text() -> str:
    """Return the file's text."""
    return json.dumps(description(), indent=1, ensure_ascii=False) + "\n"


PARTS: Final[dict[str, Callable[[], str]]] = {}
FILES: Final[dict[str, Callable[[], str]]] = {"../bt_selfsecure/delivery/etsi014/openapi.json": text}
