"""`bt-selfsecure bootstrap status`: who is enrolled, who has joined, and what a role takes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from bt_selfsecure.cli.bootstrap_options import add_state, opened

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.bootstrap.store import BootstrapStore, KnownNetwork, KnownNode


def add_parser(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """Add `status`."""
    parser = verbs.add_parser(
        "status",
        help="nodes, controllers, and what this node has joined",
        description="Show who is enrolled here and who has joined, the controllers, and the networks that this node "
        "belongs to. No key is shown.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the text")
    parser.add_argument(
        "--footprint", action="store_true", help="what a role takes, beside the classes of constrained devices"
    )
    add_state(parser)
    parser.set_defaults(run=_run)


def _run(args: Namespace) -> int:
    if args.footprint:
        return _footprint(args)
    told = _told(opened(args))
    if args.json:
        print(json.dumps(told, indent=2))
        return 0
    for one in told["controllers"]:
        print(f"controller {one['name']} of {one['domain']}, at {one['nid']}, id {one['id']}")
    for one in told["nodes"]:
        shared = "; its IK was given to others, too" if one["shared_ik"] else ""
        print(f"node {one['name']} of {one['domain']}: {one['state']}{_until(one)}{shared}, id {one['id']}")
    for one in told["networks"]:
        by = f" by {one['controller']}" if one["controller"] else ""
        print(f"this is {one['node']} of {one['network']}: {one['state']}{by}, id {one['id']}")
    return 0


def _until(node: dict[str, Any]) -> str:
    if node["until"] is None or node["state"] == "revoked":
        return ""
    return f" until {time.strftime('%Y-%m-%d', time.gmtime(node['until']))}"


def _told(store: BootstrapStore) -> dict[str, list[dict[str, Any]]]:
    controllers = [
        {"name": one.place.name, "domain": one.controller.domain, "nid": one.place.nid, "id": key.hex()}
        for key, one in store.controllers().items()
    ]
    return {
        "controllers": controllers,
        "nodes": [_node(one) for one in store.nodes()],
        "networks": [_network(one) for one in store.networks()],
    }


def _node(known: KnownNode) -> dict[str, Any]:
    record = known.record
    state = "revoked" if record.revoked else "enrolled" if record.until is None else "joined"
    if state == "joined" and record.until is not None and record.until < time.time():
        state = "its PSK has come to its end, let it join again: joined"
    if record.candidate is not None:
        state += ", joining"
    return {
        "name": known.name,
        "domain": record.domain,
        "state": state,
        "until": record.until,
        "address": known.address,
        "shared_ik": known.is_shared,
        "id": record.node_id.hex(),
    }


def _network(known: KnownNetwork) -> dict[str, Any]:
    record = known.record
    state = "joined" if record.joined else "not joined"
    if record.next_key:
        state += ", proving a new key"
    elif record.flight1:
        state += ", flight 1 is shown"
    names = {one.controller_id: one.name for one in known.controllers}
    return {
        "network": known.network,
        "node": known.node,
        "state": state,
        "controller": names.get(record.joined, ""),
        "id": record.node_id.hex(),
    }


def _footprint(args: Namespace) -> int:
    from bt_selfsecure.bootstrap.footprint import CLASSES, footprint

    rows = footprint()
    if args.json:
        print(json.dumps([row._asdict() for row in rows], indent=2))
        return 0
    print(f"{'role':<18}{'state, a node':>14}{'flights in hand':>17}  primitives")
    for row in rows:
        print(f"{row.role:<18}{row.kept_bytes:>12} B{row.buffer_bytes:>15} B  {row.primitives}")
    print("AES-128 in its forward direction alone.")
    print(f"\n{'RFC 7228':<18}{'data (RAM)':>14}{'code (flash)':>17}")
    for name, data, code in CLASSES:
        print(f"{name:<18}{data:>14}{code:>17}")
    return 0
