"""What `status`, `peers`, `establish` and `scan` print: plain text that fits 80 columns and a phone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from bt_selfsecure.cli.terminal import wrapped
from bt_selfsecure.node.shares import burst_loss
from bt_selfsecure.wording import counted, printable

LABEL: Final = 10
"""Columns of the labels on the left."""
INDENT: Final = "  "
NARROWEST: Final = 32
PHONE: Final = 60
"""Below so many columns `--watch` shows what changes, and leaves out what a key rests on."""
SHORT_LABEL: Final = 8
UNHEARD: Final = 999
"""Beyond every signal strength in dBm, to sort by."""
MINUTE_S: Final = 60
HOUR_S: Final = 60 * MINUTE_S
DAY_S: Final = 24 * HOUR_S
ASK: Final = "bt-selfsecure establish"
PAPER: Final = "paper"
PICONET: Final = 7
"""Links of a piconet, and so peers of one burst."""
_WHY_REFUSED: Final = {
    "no continuity": "; if {name} has lost its state: {ask} {name} --without-continuity",
    "restored": "; but it is this node's state that was restored. If so: {ask} {name} --without-continuity",
    "too soon": ", too soon after others; at once: {ask} {name}, and compare",
}


def status_lines(status: dict[str, Any], width: int) -> list[str]:
    """Return a head, the problems, and a paragraph for each peer."""
    address = status["address"] or "no adapter"
    head = f"{status['name']}  {status['adapter']} {address}  up {duration(status['uptime_s'])}  {status['version']}"
    lines = _wrap(head, width)
    for problem in status["problems"]:
        lines += _wrap(f"! {problem}", width, "  ")
    for peer in status["peers"]:
        lines += ["", *_peer_lines(peer, width)]
    if relay := status["relay"]:
        lines += ["", *_relay_lines(relay, width)]
    if status["groups"]:
        groups = [line for group in status["groups"] for line in group_lines(group, width - len(INDENT))]
        lines += ["", "groups", *(INDENT + line for line in groups)]
    if not status["peers"]:
        lines += ["", *_wrap("No peers: add a [[peer]] to the configuration and restart the node.", width)]
    return lines


def _peer_lines(peer: dict[str, Any], width: int) -> list[str]:
    name, address = peer["name"], peer["address"]
    rows = [("state", state(peer)), *_key_rows(peer["key"]), *_whom_rows(peer), ("messages", _messages(peer))]
    if losses := _losses(peer):
        rows.append(("losses", losses))
    if peer["link"] and peer["link"]["path"]:
        rows.insert(1, ("through", _through(peer["link"])))
    if peer["trouble"]:
        rows.insert(1, ("trouble", peer["trouble"]))
    if peer["rejections"]:
        rows.append(("rejected", ", ".join(f"{count:,} {reason}" for reason, count in peer["rejections"].items())))
    if (signal := _signal(peer)) != "":
        rows.append(("signal", signal))
    lines = [name if name == address else f"{name}  {address}"]
    for label, text in rows:
        lines += _row(label, text, width)
    return lines


def _relay_lines(relay: dict[str, Any], width: int) -> list[str]:
    """What the node carries for others."""
    lines = _wrap(f"relay  for {', '.join(relay['for'])}", width, INDENT)
    links = [
        f"{' and '.join(link['ends'])}, idle for {duration(link['idle_s'])}" if all(link["neighbours"])
        else f"{' and '.join(link['ends'])}, not open yet"
        for link in relay["links"]
    ]  # fmt: skip
    rows = [("links", "; ".join(links) or "none"), ("carried", _by(relay["forwarded_bytes"], " bytes of"))]
    routes = [f"{route['to']} by {route['by']}, found {duration(route['age_s'])} ago" for route in relay["routes"]]
    rows += [("routes", "; ".join(routes))] if routes else []
    rows += [("waiting", _by(relay["waiting_bytes"], " bytes for"))] if relay["waiting_bytes"] else []
    rows += [("dropped", _by(relay["dropped"], ""))] if relay["dropped"] else []
    for label, text in rows:
        lines += _row(label, text, width)
    return lines


def _by(counts: dict[str, int], what: str) -> str:
    return ", ".join(f"{count:,}{what} {of}" for of, count in counts.items()) or "nothing"


def watch_lines(status: dict[str, Any], width: int) -> list[str]:
    """Return the same as `status_lines`; on a phone, half as much for each peer."""
    if width >= PHONE:
        return status_lines(status, width)
    disk = status["journal"]
    mean = disk["seconds"] / disk["commits"] if disk["commits"] else 0.0
    lines = _wrap(f"{status['name']}  up {duration(status['uptime_s'])}", width)
    lines += _wrap(f"disk {1000 * mean:.0f} ms, slowest {1000 * disk['slowest_s']:.0f} ms", width)
    for problem in status["problems"]:
        lines += _wrap(f"! {problem}", width, "  ")
    for peer in status["peers"]:
        lines += ["", *_phone_lines(peer, width)]
    return lines if status["peers"] else [*lines, "", "No peers."]


def _phone_lines(peer: dict[str, Any], width: int) -> list[str]:
    lines = _wrap(f"{peer['name']}: {state(peer)}", width, INDENT)
    if peer["trouble"]:
        lines += _wrap(f"{INDENT}! {peer['trouble']}", width, INDENT * 2)
    counts, queues, key = peer["counts"], peer["queues"], peer["key"]
    rows = [
        ("key", f"{key['fingerprint']}, {key['secret_bits']:.0f} bits" if key else "none yet"),
        ("who", _alarm(peer["trust"])),
        ("rounds", f"{counts['rounds_out']:,} out, {counts['rounds_in']:,} in"),
        ("waiting", f"{queues['outbox']:,} out, {queues['inbox']:,} in"),
        ("lost", _losses(peer)),
        ("signal", _signal(peer)),
    ]
    for label, text in rows:
        if text:
            lines += _wrap(f"{INDENT}{label:<{SHORT_LABEL}}{text}", width, " " * (SHORT_LABEL + len(INDENT)))
    return lines


def _through(link: dict[str, Any]) -> str:
    """Which nodes carry a link."""
    text = ", then ".join(link["path"])
    if link["second_path"]:
        text += f"; a second way through {', then '.join(link['second_path'])}"
    if link["round_trip_s"] is not None:
        text += f"; {link['round_trip_s']:.2f} s there and back"
    return text


def _alarm(trust: dict[str, Any]) -> str:
    """What somebody else may have caused; empty where there was nothing."""
    counts = ((trust["keys_from_nowhere"], "from nowhere"), (trust["refused"], "refused"))
    found = ", ".join(f"{count:,} {what}" for count, what in counts if count)
    differed = [] if trust["differed_by"] is None else ["! strings differed"]
    return "; ".join([*differed, f"! keys {found}"] if found else differed)


def _losses(peer: dict[str, Any]) -> str:
    """Of the key's burst, and of what the session sent since the node began; empty where nothing was sent."""
    key, counts = peer["key"], peer["counts"]
    found = [f"{100 * burst_loss(key):.1f} % of burst"] if key else []
    found += [f"{100 * counts['retransmissions'] / counts['frames']:.1f} % resent"] if counts["frames"] else []
    return ", ".join(found)


def state(peer: dict[str, Any]) -> str:
    """Return a peer's state in words, with its link and what goes on."""
    text = str(peer["state"])
    if link := peer["link"]:
        text += f", {link['bearer']} for {duration(link['age_s'])}"
    if progress := peer["progress"]:
        sent, heard, needed = progress["sent"], progress["heard"], progress["needed"]
        so_far = f"{heard:,} packets heard" if sent is None else f"{sent:,} packets sent"
        text += f", {so_far}, {needed:,} must arrive"
    return text


def _key_rows(key: dict[str, Any] | None) -> list[tuple[str, str]]:
    if key is None:
        return [("key", "none yet")]
    age = "of unknown age" if key["age_s"] is None else f"{duration(key['age_s'])} old"
    return [
        ("key", f"{key['fingerprint']}, {age}"),
        *_strength_rows(key),
    ]


def _strength_rows(key: dict[str, Any]) -> list[tuple[str, str]]:
    """What a key is worth, and to whom."""
    heard = f"{key['received']:,} of {key['sent']:,} packets over {key['bearer']}"
    return [
        ("secret", f"{key['secret_bits']:.1f} bits (target {key['target_bits']:g}), {heard}"),
        ("rests on", str(key["rests_on"])),
        *_shared_rows(key),
    ]


def _shared_rows(key: dict[str, Any]) -> list[tuple[str, str]]:
    """What others to whom the burst was sent, too, could know of the key."""
    if not key["shared"]:
        return []
    least = min(one["missed"] for one in key["shared"])
    others = counted(len(key["shared"]), "other peer")
    if least:
        return [("burst", f"shared with {others}; each missed {least:,} packets of this key or more")]
    known = "X25519 alone keeps the key from one" if key["hybrid"] else "one of them can compute the key"
    return [("burst", f"shared with {others}; {known} who missed none of its packets")]


def _whom_rows(peer: dict[str, Any]) -> list[tuple[str, str]]:
    """Whether the peer is the one that is meant, and what to do about it."""
    name, key, trust = peer["name"], peer["key"], peer["trust"]
    rows = []
    if key or trust["confirmed"]:
        rows.append(("peer", whom(peer) if trust["confirmed"] else f"{whom(peer)}; {_how_to_confirm(peer)}"))
    if trust["differed_by"] is not None:
        on = "" if trust["differed_since"] is None else f" on {day(trust['differed_since'])}"
        text = (
            f"strings differed{on}, compared by {trust['differed_by'] or 'somebody'}: one may stand between the two; "
        )
        text += f"to compare again: {ASK} {name}" + ", if need be --without-continuity" * bool(trust["confirmed"])
        rows.append(("compared", text))
    if trust["refused"]:
        ago = f", the last {duration(trust['refused_age_s'])} ago" if trust["refused_age_s"] is not None else ""
        text = f"{counted(trust['refused'], 'key')}{ago}, from one who has not the key in use"
        rows.append(("refused", f"{text}{_WHY_REFUSED[trust['refused_why']].format(ask=ASK, name=name)}"))
    return rows


def _how_to_confirm(peer: dict[str, Any]) -> str:
    """What leads to a confirmation; only what the node does not refuse."""
    name, sas = peer["name"], peer["key"]["sas"]
    if refusal := _never_confirmed(name, peer["session"]["profile"]):
        return f"{refusal}; {sas} is for this one key" if sas else refusal
    return f"compare {sas} at both ends: bt-selfsecure confirm {name}" if sas else f"to compare: {ASK} {name}"


def _never_confirmed(name: str, profile: str) -> str:
    """Why `confirm` would refuse in any case; else empty. A stranger's name is its address."""
    if profile == PAPER:
        return f"the profile {PAPER} confirms nobody"
    return "a stranger: to confirm it, add it to the configuration as a [[peer]]" if ":" in name else ""


def whom(peer: dict[str, Any]) -> str:
    """Return whether the peer is confirmed, in words."""
    trust = peer["trust"]
    age = "" if trust["confirmed_age_s"] is None else f" {duration(trust['confirmed_age_s'])} ago"
    if trust["confirmed"] == "string":
        return f"confirmed: {trust['by'] or 'somebody'} has compared the strings{age}"
    if trust["confirmed"] == "bootstrapped":
        return "confirmed: bootstrapped" + (f",{age}" if age else "")
    if trust["confirmed"]:
        return "confirmed by its authentication key" + (f",{age}" if age else "")
    text = "unconfirmed"
    if trust["shared_key"]:
        text += ": its authentication key is that of other peers, too"
        text += ", so it may be any of them: give each pair a key of its own"
    if trust["keys_from_nowhere"]:
        text += f", {counted(trust['keys_from_nowhere'], 'key')} from nowhere"
        text += "" if trust["first_since"] is None else f" since {day(trust['first_since'])}"
    return text


def _messages(peer: dict[str, Any]) -> str:
    queues, session = peer["queues"], peer["session"]
    done = f"{session['sent']:,} sent, {session['received']:,} received; " if session else ""
    return f"{done}waiting {queues['outbox']:,} out, {queues['inbox']:,} in (each up to {queues['limit']:,})"


def _signal(peer: dict[str, Any]) -> str:
    strength = "" if peer["rssi"] is None else f"{peer['rssi']} dBm"
    heard = "" if peer["silent_s"] is None else f"heard {duration(peer['silent_s'])} ago"
    return ", ".join(filter(None, (strength, heard)))


def establishment_lines(outcome: dict[str, Any], width: int) -> list[str]:
    """Return the lines that say how an establishment ended."""
    if not outcome["established"]:
        return _wrap(f"no key with {outcome['peer']}: {outcome['reason']}", width, "  ")
    name = outcome["peer"]
    lines = [f"A new key with {name}"]
    rows = [("key", str(outcome["fingerprint"])), *_strength_rows(outcome)]
    if outcome["authenticated"]:
        rows.append(("peer", "its authentication key proved it"))
    if outcome["sas"]:
        rows.append(("compare", f"{outcome['sas']} with what {name} shows, where somebody asked for it, too"))
        rows.append(("then", _never_confirmed(name, outcome["profile"]) or f"bt-selfsecure confirm {name}"))
    for label, text in rows:
        lines += _row(label, text, width)
    return lines


def group_lines(group: dict[str, Any], width: int) -> list[str]:
    """Return what people are told of a group: a line, and one for each member."""
    counts, number, bits = group["counts"], group["number"], group["secret_bits"]
    head = f"{printable(group['name'])}  epoch {group['epoch']}"
    if not group["own"]:
        came = f"{counted(counts['received'], 'message')} since the start, {counts['repaired']:,} by the session"
        return _wrap(f"{head}, of {group['owner']}: {came}", width, INDENT)
    why = f", as one serves {PICONET} at most" if len(group["members"]) > PICONET else ""
    common = f"{bits:.0f} secret bits of a burst in common" if bits else f"no burst in common{why}"
    lines = _wrap(f"{head}, {counted(number, 'message')}, {group['waiting']:,} under way; {common}", width, INDENT)
    for member in group["members"]:
        has = "" if member["state"] == "away" else f", has {member['acknowledged']:,} of {number:,} for sure"
        how = "hears no broadcasts, by its session" if member["state"] == "deaf" else member["state"]
        lines += _wrap(f"{INDENT}{member['peer']}: {how}{has}", width, INDENT * 2)
    return lines if group["members"] else [*lines, f"{INDENT}no members"]


def peer_table(peers: list[dict[str, Any]], width: int) -> list[str]:
    """Return a table of one line a peer."""
    rows = [
        (
            peer["name"],
            peer["address"],
            peer["state"],
            peer["key"]["fingerprint"] if peer["key"] else "-",
            "confirmed" if peer["trust"]["confirmed"] else "unconfirmed" if peer["key"] else "-",
            f"{peer['queues']['outbox']}/{peer['queues']['inbox']}",
        )
        for peer in peers
    ]
    return _table(("NAME", "ADDRESS", "STATE", "KEY", "WHO", "OUT/IN"), rows, width)


def nearest(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return nodes that were heard, the loudest first."""
    return sorted(nodes, key=lambda node: UNHEARD if node["rssi"] is None else -node["rssi"])


def sighting_table(nodes: list[dict[str, Any]], width: int) -> list[str]:
    """Return a table of one line a node, the nearest first."""
    rows = [
        (
            node["peer"] or "-",
            node["address"],
            "?" if node["rssi"] is None else f"{node['rssi']} dBm",
            printable(node["name"] or "-"),
            node["profile"] or "?",
        )
        for node in nearest(nodes)
    ]
    return _table(("PEER", "ADDRESS", "SIGNAL", "NAME", "PROFILE"), rows, width) if rows else ["No node was heard."]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """Columns as wide as they must be; a line that is too long is cut."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = (
        "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    )
    return [line if len(line) <= width else line[: width - 3] + "..." for line in lines]


def _row(label: str, text: str, width: int) -> list[str]:
    return _wrap(f"{INDENT}{label:<{LABEL}}{text}", width, " " * (LABEL + len(INDENT)))


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    return wrapped(text, max(width, NARROWEST), indent)


def day(time_s: float) -> str:
    """Return a date as people say it: "3 May 2026"."""
    return time.strftime("%-d %b %Y", time.localtime(time_s))


def duration(seconds: float) -> str:
    """Return a time as people say it: "12 s", "5 min", "3 h 12 min", "40 d 2 h"."""
    whole = max(0, int(seconds))
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S} min"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S} h"
