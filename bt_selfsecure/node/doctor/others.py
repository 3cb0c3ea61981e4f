"""The check of what a node does for and with several others: relays, ways through others, groups. The node tells it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.node.doctor.findings import Finding, NotSeen, ok, warning
from bt_selfsecure.node.doctor.host_system import HostSystem
from bt_selfsecure.wording import counted


def others(system: HostSystem) -> Finding:
    """Look at what the running node says of those that it carries for, is carried by, and speaks to as a group."""
    try:
        status: Any = NodeClient(system.socket).status()
    except UsageError as error:
        raise NotSeen(f"the node tells it while it runs ({error})") from error
    if found := list(_troubles(status, system)):
        texts, remedies = zip(*found, strict=True)
        return warning(" ".join(texts), " ".join(dict.fromkeys(remedies)))
    return ok(" ".join(_facts(status, system)) or "It relays for nobody, and has no groups.")


def _troubles(status: Any, system: HostSystem) -> Iterator[tuple[str, str]]:
    for peer in status["peers"]:
        if peer["name"] in system.through and (peer["state"] != "connected" or peer["trouble"]):
            how = "connected" if peer["state"] == "connected" else "not connected"
            why = f" ({peer['trouble']})" if peer["trouble"] else ""
            yield (
                f"{peer['name']} is reached through others, and {how}{why}.",
                "See that a node between is connected here, and has both ends in its [relay] for.",
            )
    relay = status["relay"] or {"dropped": {}}
    if refused := relay["dropped"].get("not for them"):
        yield (
            f"{counted(refused, 'frame')} of others not carried, as the ends are not both in [relay] for.",
            "Name both ends there, if they are yours.",
        )
    for group in status["groups"]:
        if away := [member["peer"] for member in group["members"] if member["state"] == "away"]:
            yield (
                f"Of group {group['name']}, {', '.join(away)} can't be reached and misses messages.",
                "See that it runs and is near, or: bt-selfsecure group remove.",
            )


def _facts(status: Any, system: HostSystem) -> Iterator[str]:
    if relay := status["relay"]:
        carried = sum(relay["forwarded_bytes"].values())
        yield f"Relays for {', '.join(relay['for'])}: {counted(len(relay['links']), 'link')}, {carried:,} bytes."
    if system.through:
        yield f"Through others: {', '.join(system.through)}."
    for group in status["groups"]:
        if group["own"]:
            hear = sum(member["state"] == "current" for member in group["members"])
            yield f"Group {group['name']}: {hear} of {counted(len(group['members']), 'member')} hear its broadcasts."
        else:
            yield f"A member of {group['name']} of {group['owner']}."
