"""The local API's description in OpenAPI 3.1, served at /v1/openapi.json."""

from __future__ import annotations

from typing import Any, Final

from bt_selfsecure import __version__
from bt_selfsecure.node.config import LOG_LEVELS
from bt_selfsecure.node.messages import MAX_MESSAGE_BYTES, MAX_PORT

Schema = dict[str, Any]


def _object(doc: str, optional: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "description": doc,
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


def _text(doc: str) -> Schema:
    return {"type": "string", "description": doc}


def _whole(doc: str, **limits: float) -> Schema:
    return {"type": "integer", "description": doc, **limits}


def _number(doc: str, **limits: float) -> Schema:
    return {"type": "number", "description": doc, **limits}


def _flag(doc: str) -> Schema:
    return {"type": "boolean", "description": doc}


def _list(doc: str, items: Schema) -> Schema:
    return {"type": "array", "description": doc, "items": items}


def _maybe(schema: Schema) -> Schema:
    """The same, or null."""
    if "$ref" in schema:
        return {"oneOf": [schema, {"type": "null"}]}
    return schema | {"type": [schema["type"], "null"]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


TIME: Final = "seconds since 1970-01-01 UTC, by the clock as it is now"
AGE: Final = "by a clock that does not jump; null where the clock was set while the node was off"
KEY_FACTS: Final[dict[str, Schema]] = {
    "fingerprint": _text("Short public name of the key, equal at both ends."),
    "secret_bits": _number(
        "Secret bits by the losses alone, for the configured bound on an eavesdropper's loss; 0 without a radio."
    ),
    "target_bits": _number("What was asked for."),
    "sent": _whole("Burst packets that were sent, as far as this end knows."),
    "received": _whole("Burst packets that became the key."),
    "sas": _text("Short authentication string: compare it with the other end's to exclude a man in the middle."),
    "authenticated": _flag("Whether a pre-shared key proved the peer. If not, only comparing `sas` does."),
    "hybrid": _flag("Whether an X25519 secret is mixed in."),
    "bearer": _text("What carried the burst."),
    "own_address": _text("This node's device address then; empty where an older version agreed on the key."),
    "rests_on": _text("On what the secrecy rests, in a sentence."),
    "age_s": _maybe(_number(f"Seconds since it was agreed on, {AGE}.")),
    "since": _maybe(_number(f"When that was, {TIME}.")),
}
SCHEMAS: Final[dict[str, Schema]] = {
    "Error": _object("Why not.", error=_text("One line: what is wrong, and what to do.")),
    "Health": _object(
        "Whether the node can do its work.",
        healthy=_flag("Whether there is no problem."),
        problems=_list("Each with its remedy.", _text("One sentence.")),
    ),
    "Status": _object(
        "The node and its peers.",
        version=_text("Of this program."),
        name=_text("Under which peers discover the node."),
        address=_maybe(_text("The adapter's device address; null while there is no adapter.")),
        adapter=_text("As in hci0; without one, what takes its place, and why that is no radio."),
        uptime_s=_number("Seconds since the node started."),
        healthy=_flag("Whether there is no problem."),
        problems=_list("Each with its remedy.", _text("One sentence.")),
        discovery=_maybe(_ref("Discovery")),
        journal=_ref("Journal"),
        peers=_list("As GET /v1/peers.", _ref("Peer")),
    ),
    "Journal": _object(
        "What the disk took to keep the node's state, since the start.",
        commits=_whole("How many."),
        seconds=_number("All together."),
        slowest_s=_number("The slowest, in seconds."),
    ),
    "Discovery": _object(
        "How nodes near are found; null without an adapter. No session depends on it.",
        advertising=_text("bluez, raw-hci, paused, off."),
        advertising_trouble=_text("Why not by bluez, or not at all; else empty."),
        scanning=_flag("Whether it listens now."),
        scan_trouble=_text("Why the last scan failed; else empty."),
        nodes_in_sight=_whole("Nodes heard since the start."),
    ),
    "Peer": _object(
        "A peer and what there is with it.",
        name=_text("As configured; the address of a peer that is not."),
        address=_text("Bluetooth device address, as in B8:27:EB:12:34:56."),
        state=_text("A short phrase, as in connected, establishing, unreachable."),
        trouble=_text("The last thing that went wrong, with its remedy; empty after a success."),
        link=_maybe(_ref("Link")),
        key=_maybe(_ref("Key")),
        session=_maybe(_ref("Session")),
        queues=_ref("Queues"),
        counts=_ref("Counts"),
        rejections={
            "type": "object",
            "description": "Frames that changed nothing, counted by reason.",
            "additionalProperties": _whole("How many.", minimum=1),
        },
        rssi=_maybe(_whole("Signal strength as last heard, dBm.")),
        silent_s=_maybe(_number("Seconds since the peer was last heard; null where it was not since the start.")),
        last_seen=_maybe(_number(f"When that was, {TIME}.")),
        progress=_maybe(_ref("Progress")),
    ),
    "Link": _object(
        "The open link.",
        bearer=_text("As in rfcomm."),
        age_s=_number("Seconds since it was opened."),
        since=_number(f"When that was, {TIME}."),
        losses_visible=_flag("Whether packets that the radio loses are missing here, or the link repeats them."),
        encrypted=_flag("Whether the controllers encrypt it, as far as the system tells."),
    ),
    "Key": _object("The key that both ends hold: facts about it, never the key.", **KEY_FACTS),
    "Session": _object(
        "The secure session.",
        profile=_text("hardened or paper."),
        sent=_whole("Seq of the next message out."),
        received=_whole("Seq of the next message in."),
        epoch=_whole("Counts resynchronisations."),
    ),
    "Queues": _object(
        "Messages that wait.",
        outbox=_whole("For the peer."),
        inbox=_whole("For a reader here."),
        limit=_whole("Most that either takes."),
    ),
    "Counts": _object(
        "What happened since the node began with this peer.",
        rounds_out=_whole("Rounds that the peer acknowledged."),
        rounds_in=_whole("Rounds that were accepted here."),
        frames=_whole("Data frames sent."),
        retransmissions=_whole("Of these, sent again."),
        resynchronisations=_whole("Times that a direction went on from a common checkpoint."),
        establishments=_whole("Keys that were agreed on."),
        failed_establishments=_whole("Establishments that ended without one."),
        links=_whole("Links that were opened."),
        dropped=_whole("Messages found damaged on the disk and dropped, or perhaps under way in a session that was."),
    ),
    "Progress": _object(
        "Of the establishment under way.",
        sent=_maybe(_whole("Burst packets sent so far; null at the end that hears them.")),
        heard=_maybe(_whole("Burst packets heard so far; null at the end that sends them.")),
        needed=_whole("How many must arrive for a key."),
    ),
    "Establishment": _object(
        "How an establishment ended.",
        tuple(KEY_FACTS),
        established=_flag("Whether both ends hold a new key."),
        peer=_text("Name of the peer."),
        reason=_text("Why there is none, in a sentence; empty if there is."),
        **KEY_FACTS,
    ),
    "Sent": _object("The message is in the queue.", id=_whole("Its number, for the logs.")),
    "LogLevel": _object("What is logged.", level=_text("Least important messages: " + ", ".join(LOG_LEVELS) + ".")),
    "Received": _object(
        "One line of the stream.",
        id=_whole("To acknowledge it by DELETE /v1/messages/{id}.", minimum=1),
        peer=_text("Who sent it."),
        port=_whole("On which port.", minimum=0, maximum=MAX_PORT),
        time=_number(f"When it came, {TIME}."),
        age_s=_maybe(_number("Seconds since then; null for what came before the node was started.")),
        message={"type": "string", "contentEncoding": "base64", "description": "The bytes."},
    ),
    "Sighting": _object(
        "A node that was heard.",
        address=_text("Bluetooth device address."),
        name=_maybe(_text("As advertised.")),
        rssi=_maybe(_whole("Signal strength, dBm.")),
        peer=_maybe(_text("Name of the configured peer that it is.")),
        profile=_maybe(_text("That it speaks.")),
        version=_maybe(_whole("Of the protocol that it speaks.")),
    ),
}


def _query(name: str, schema: Schema, default: object = None) -> Schema:
    doc = schema.pop("description")
    if default is not None:
        schema["default"] = default
    return {"name": name, "in": "query", "description": doc, "schema": schema}


def _path(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "path", "required": True, "description": schema.pop("description"), "schema": schema}


def _json(doc: str, schema: Schema) -> Schema:
    return {"description": doc, "content": {"application/json": {"schema": schema}}}


def _operation(name: str, summary: str, answers: Schema, *parameters: Schema, **more: Any) -> Schema:
    errors = _errors(_400="The request can't be used.", _500="A fault.", _503="Too many programs use the node.")
    operation: Schema = {
        "operationId": name,
        "summary": summary,
        "responses": errors | answers | more.pop("errors", {}),
    }
    return operation | ({"parameters": list(parameters)} if parameters else {}) | more


def _errors(**answers: str) -> Schema:
    return {status.removeprefix("_"): _json(doc, _ref("Error")) for status, doc in answers.items()}


NO_PEER: Final = "There is no such peer."
PEER: Final = {"name": "peer", "in": "path", "required": True, "description": "Name or address of a peer.",
               "schema": {"type": "string"}}  # fmt: skip

PATHS: Final[dict[str, Schema]] = {
    "/v1/health": {
        "get": _operation(
            "health",
            "Whether the node can do its work",
            {"200": _json("It can.", _ref("Health")), "503": _json("Something is in its way.", _ref("Health"))},
        )
    },
    "/v1/status": {"get": _operation("status", "The node and its peers", {"200": _json("Status.", _ref("Status"))})},
    "/v1/peers": {
        "get": _operation(
            "peers",
            "The peers",
            {"200": _json("Peers.", _object("All.", peers=_list("Each.", _ref("Peer"))))},
        )
    },
    "/v1/peers/{peer}/messages": {
        "post": _operation(
            "send",
            "Send a message; the body is its bytes",
            {"200": _json("It is durable, or acknowledged.", _ref("Sent"))},
            PEER,
            _query("port", _whole("0 for messages, 1 for `pipe`, others are free.", minimum=0, maximum=MAX_PORT), 0),
            _query(
                "until",
                {
                    "type": "string",
                    "enum": ["durable", "acknowledged"],
                    "description": "When to answer: the message is kept here, or the peer has it.",
                },
                "durable",
            ),
            _query("timeout", _number("Seconds to wait for that.", minimum=0, maximum=86_400), 60),
            requestBody={
                "description": f"The message, 0 to {MAX_MESSAGE_BYTES:,} bytes.",
                "content": {"application/octet-stream": {"schema": {"type": "string", "maxLength": MAX_MESSAGE_BYTES}}},
            },
            errors=_errors(
                _404=NO_PEER,
                _413="The message is too long.",
                _503="The node can't take it now.",
                _504="Not acknowledged in time; the message stays queued.",
            )
            | {
                "429": _json("The queue for this peer is full.", _ref("Error"))
                | {"headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}}
            },
        )
    },
    "/v1/peers/{peer}/establish": {
        "post": _operation(
            "establish",
            "Agree on a new key now; answers when that has ended, which takes a burst",
            {"200": _json("How it ended.", _ref("Establishment"))},
            PEER,
            errors=_errors(_404=NO_PEER, _503="The node can't do it now."),
        )
    },
    "/v1/messages": {
        "get": _operation(
            "receive",
            "Received messages, one JSON object a line, the oldest first, until each is acknowledged",
            {
                "200": {
                    "description": "With follow, it ends only when the node stops or the reader goes.",
                    "content": {"application/x-ndjson": {"schema": _ref("Received")}},
                }
            },
            _query("peer", _text("From this peer only.")),
            _query("port", _whole("Of this port.", minimum=0, maximum=MAX_PORT), 0),
            _query("follow", _flag("Wait for further ones."), False),
            errors=_errors(_404=NO_PEER, _409="Another program reads these messages."),
        )
    },
    "/v1/messages/{id}": {
        "delete": _operation(
            "acknowledge",
            "The reader has this message: forget it",
            {"204": {"description": "Forgotten, now or before."}},
            _path("id", _whole("From the stream.", minimum=1)),
        )
    },
    "/v1/scan": {
        "post": _operation(
            "scan",
            "Look for nodes",
            {"200": _json("Who was heard.", _object("All.", nodes=_list("Each.", _ref("Sighting"))))},
            _query("seconds", _number("How long.", minimum=1, maximum=60), 6),
            errors=_errors(_503="The adapter can't scan now."),
        )
    },
    "/v1/metrics": {
        "get": _operation(
            "metrics",
            "The figures of status, for Prometheus",
            {
                "200": {
                    "description": "Text format 0.0.4.",
                    "content": {"text/plain": {"schema": {"type": "string"}}},
                }
            },
        )
    },
    "/v1/log-level": {
        "get": _operation("logLevel", "What is logged", {"200": _json("Now.", _ref("LogLevel"))}),
        "put": _operation(
            "setLogLevel",
            "Log more or less until the node ends",
            {"200": _json("From now on.", _ref("LogLevel"))},
            {
                "name": "level",
                "in": "query",
                "required": True,
                "description": "Least important messages.",
                "schema": {"type": "string", "enum": list(LOG_LEVELS)},
            },
        ),
    },
    "/v1/openapi.json": {
        "get": _operation("openapi", "This description", {"200": _json("OpenAPI 3.1.", {"type": "object"})})
    },
}

DESCRIPTION: Final[Schema] = {
    "openapi": "3.1.0",
    "info": {
        "title": "bt-selfsecure node",
        "version": __version__,
        "description": "Local programs send and receive through the node, over its Unix socket. "
        "Example: curl --unix-socket /run/bt-selfsecure/node.sock http://node/v1/status",
        "license": {"name": "MIT", "identifier": "MIT"},
    },
    "servers": [{"url": "http://node", "description": "Any host name: the socket decides."}],
    "paths": PATHS,
    "components": {"schemas": SCHEMAS},
}
