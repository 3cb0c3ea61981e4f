"""The table of openapi.md, and bt_selfsecure/node/openapi.json in OpenAPI 3.1, which a node serves.

Both are made from bt_selfsecure/node/api_types.py, api_peer_types.py and api_operations.py: run docs/generate.py.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import typing
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

import typing_extensions
from pydantic import ConfigDict, TypeAdapter
from tables import table

typing.TypedDict = typing_extensions.TypedDict  # pydantic's wish on Python 3.11

from bt_selfsecure.node import api_operations, api_peer_types, api_types  # noqa: E402

for module in (api_peer_types, api_types, api_operations):  # another page's program may have imported them before
    importlib.reload(module)

from bt_selfsecure.node.api_operations import OPERATIONS, Operation  # noqa: E402
from bt_selfsecure.node.api_types import Error  # noqa: E402
from bt_selfsecure.node.message_limits import MAX_MESSAGE_BYTES  # noqa: E402

PARAMETERS: Final = {
    "group": "Name of a group.",
    "peer": "Name or address of a peer.",
    "id": "Of a message, from the stream.",
}
EVERYWHERE: Final = {400: "The request can't be used.", 500: "A fault.", 503: "The node can't do it now."}
Json = dict[str, Any]


def plain(schema: Any) -> Any:
    """The schema without the titles that pydantic makes of names, and in lines."""
    if isinstance(schema, list):
        return [plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: plain(value) for name, value in schema.items() if name != "title" or isinstance(value, dict)}
    if isinstance(doc := kept.get("description"), str):
        kept["description"] = " ".join(doc.split())
    if isinstance(kept.get("additionalProperties"), bool):
        del kept["additionalProperties"]
    return kept


class Schemas:
    """The components, gathered as they are asked for."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}

    def of(self, kind: Any) -> Json:
        """Return the schema of this type; of one of ours a reference, whose target is among the components."""
        adapter = TypeAdapter(kind)
        schema: Json = plain(adapter.json_schema(ref_template="#/components/schemas/{model}"))
        self.components |= schema.pop("$defs", {})
        if typing_extensions.is_typeddict(kind):
            self.components[kind.__name__] = schema
            return {"$ref": f"#/components/schemas/{kind.__name__}"}
        return schema

    def query(self, kind: type) -> Iterator[Json]:
        schema = plain(TypeAdapter(kind).json_schema())
        for name, each in schema.get("properties", {}).items():
            doc = each.pop("description")
            if "anyOf" in each:  # or None, which is said by leaving it out
                each = each["anyOf"][0]
            required = {"required": True} if name in schema.get("required", ()) else {}
            yield {"name": name, "in": "query", "description": doc, "schema": each} | required


def operation(name: str, of: Operation, schemas: Schemas) -> Json:
    """Return an operation's description."""
    return described_operation(name, of, schemas, EVERYWHERE, PARAMETERS, MAX_MESSAGE_BYTES, Error)


def described_operation(
    name: str,
    of: Operation,
    schemas: Schemas,
    everywhere: dict[int, str],
    in_paths: dict[str, Any],
    most_body_bytes: int,
    error_type: type,
) -> Json:
    """Return an operation's description, of this API or of another that is declared alike."""
    error = {"content": {"application/json": {"schema": schemas.of(error_type)}}}
    errors = sorted((everywhere | dict(of.errors)).items())
    answers = {str(status): {"description": doc} | error for status, doc in errors}
    if name == "health":
        answers["503"] = {
            "description": "Something is in its way.",
            "content": {of.media: {"schema": schemas.of(of.answer)}},
        }
    if of.answer is None:
        good: Json = {"204": {"description": of.said}}
    else:
        good = {"200": {"description": of.said, "content": {of.media: {"schema": schemas.of(of.answer)}}}}
    in_path = [
        {
            "name": part[1:-1],
            "in": "path",
            "required": True,
            "description": in_paths[part[1:-1]],
            "schema": {"type": "integer", "minimum": 1} if part in ("{id}", "{number}") else {"type": "string"},
        }
        for part in of.path.split("/")
        if part.startswith("{")
    ]
    parameters = [*in_path, *schemas.query(of.query)]
    words = name.split("_")
    described: Json = {
        "operationId": words[0] + "".join(word.capitalize() for word in words[1:]),
        "summary": of.summary,
        "responses": good | answers,
    }
    if parameters:
        described["parameters"] = parameters
    if of.body:
        content = {"application/octet-stream": {"schema": {"type": "string", "maxLength": most_body_bytes}}}
        described["requestBody"] = {"description": of.body, "content": content}
    return described


def document(*modules: ModuleType) -> None:
    """Let pydantic take the sentences under fields for their descriptions."""
    for kind in (kind for module in modules for kind in vars(module).values()):
        if isinstance(kind, type) and (typing_extensions.is_typeddict(kind) or hasattr(kind, "__dataclass_fields__")):
            kind.__pydantic_config__ = ConfigDict(use_attribute_docstrings=True)  # type: ignore[attr-defined]


def description() -> Json:
    """Return the whole description, but for the version, which the node puts in."""
    document(api_types, api_peer_types, api_operations)
    schemas, paths = Schemas(), dict[str, Json]()
    for name, each in OPERATIONS.items():
        paths.setdefault(each.path, {})[each.method.lower()] = operation(name, each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bt-selfsecure node",
            "description": "Local programs send and receive through the node, over its Unix socket. "
            "Example: curl --unix-socket /run/bt-selfsecure/node.sock http://node/v1/status",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "http://node", "description": "Any host name: the socket decides."}],
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.components.items()))},
    }


def text() -> str:
    """Return the file's text."""
    return json.dumps(description(), indent=1, ensure_ascii=False) + "\n"


def operations() -> str:
    """Return a row for each operation, with its parameters."""
    rows = []
    for each in OPERATIONS.values():
        query = ", ".join(f"`{field.name}`" for field in dataclasses.fields(each.query))
        rows.append((f"`{each.method} {each.path}`", query, each.summary))
    return table(("", "parameters", ""), *rows)


PARTS: Final[dict[str, Callable[[], str]]] = {"operations": operations}
FILES: Final[dict[str, Callable[[], str]]] = {"../bt_selfsecure/node/openapi.json": text}
