"""A sweep for people, in one HTML file without outside resources: what came out, how sure that is, how to repeat it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from bt_selfsecure import __version__
from bt_selfsecure.look.pages import page
from bt_selfsecure.node.tables import toml
from bt_selfsecure.sweep import report_tables, words
from bt_selfsecure.sweep.figures import drawn
from bt_selfsecure.sweep.report_tables import Columns, ReportTable, table
from bt_selfsecure.sweep.results import BITS, BROKEN, HOLDS, NO_KEY, WEAK, Analysis, Pair
from bt_selfsecure.sweep.runs import StoredRun
from bt_selfsecure.sweep.store import Store

CAPTIONS: Final = {
    "loss-by-distance": "Share of the packets on the air that each listener missed, all runs of a distance pooled, "
    "with 95 % intervals. The paper's Fig. 7 has this for Bob alone. The points of one distance are drawn a little "
    "apart, and an Eve's point is where Bob was, wherever she stood.",
    "joint-loss": "e|B: of the packets that Bob heard, the share that Eve missed, in percent: the least of a run. This "
    "is what a key is made of. A bold 0 is a run that Eve heard whole. Where several settings share a column, the "
    "least of all is shown.",
    "bits-by-distance": "What the key of the worst run is worth by its own bound, of the pairs of Bob and Eve that the "
    "plan names. No key is called stronger than 256 bits.",
    "packets-by-eves": "Packets that Bob must have in the key, if so many listeners put together what they heard: by "
    "the bound of the worst run, and (dotted) of all runs pooled, which is kinder than the worst run. For each number "
    "the Bob and the Eves who make it worst.",
    "loss-by-time": "Each mark is one run at one listener. Steps and trends say that something else than the distance "
    "changed.",
    "loss-by-rssi": "Each mark is one run at one listener. Loss without weak signal is the receiver's own, or "
    "interference; a better receiver at the same place would not have it.",
}
MOST_NAMED: Final = 4
OWN_PLACE: Final = frozenset({"nodes", "roles", "sender", "turn", "tag", "burst"})
"""Of a run's notes: what has a place of its own in the page, or is drawn anew for each run."""


def html(store: Store, analysis: Analysis) -> str:
    """Return the page. Equal sweeps give equal pages."""
    runs, manifests = store.runs(withdrawn=True), store.manifests()
    pairs, apart = analysis.planned(), report_tables.told_apart(analysis)
    return page(
        "sweep/report.html",
        version=__version__,
        analysis=analysis,
        words=words,
        long_word=report_tables.LONG_WORD.search,
        captions=CAPTIONS,
        minute="%Y-%m-%d %H:%M",
        bearers=sorted({row.setting.bearer for row in analysis.listeners}),
        times=[] if analysis.times_astray() else sorted(run.info.started for run in runs if run.info.started),
        verdict=_verdict(pairs),
        worst=min((pair for pair in pairs if pair.worst), key=lambda pair: pair.strength, default=None),
        packets=sum({row.run: row.sent for row in analysis.each_run}.values()),
        distances=sorted({row.distance_m for row in analysis.each_run if row.distance_m is not None}),
        dropped=any(pair.marked_verdict != pair.verdict for pair in analysis.pairs),
        figures=drawn(analysis),
        listeners=report_tables.listeners(analysis, apart),
        pairs=report_tables.pairs(analysis, apart),
        each_run=report_tables.each_run(analysis, apart),
        colluding=report_tables.colluding(analysis, apart),
        sender=runs[0].info.sender,
        names=sorted({name for run in runs for name in run.listeners}),
        plans=list(dict.fromkeys(_plan(each["plan"]) for each in manifests.values() if each.get("plan"))),
        measured_with=_measured_with(runs, manifests),
        runs=_runs(runs),
        seen=_seen(runs),
    )


def _verdict(pairs: Sequence[Pair]) -> str:
    """Return the result in a few sentences."""
    if not pairs:
        return "With one listener nothing can be said of secrecy: it takes Bob and at least one Eve."
    keys = [pair for pair in pairs if pair.worst]
    if not keys:
        return "Bob heard nothing: no key could be made."
    counted, strong = Counter(pair.verdict for pair in pairs), f"{BITS[-1]} bits"
    each = f": each of their keys is worth {strong} or more" if counted[HOLDS] else ""
    text = f"{counted[HOLDS]} of {len(pairs)} pairs of Bob and Eve hold{each}. "
    if counted[BROKEN]:
        first = next(pair for pair in keys if pair.verdict == BROKEN)
        text += (
            f"In {counted[BROKEN]} Eve heard everything that Bob heard in every run, first {_case(first)}: no key can "
            "be made of these packets. "
        )
    if counted[WEAK]:
        text += f"In {counted[WEAK]} a run was made whose key is worth less than {strong}. "
    if counted[NO_KEY]:
        text += f"In {counted[NO_KEY]} Bob heard nothing. "
    others = [pair for pair in keys if pair.verdict != BROKEN]
    text += "Of the others the" if 0 < counted[BROKEN] < len(keys) else "The"
    return f"{text} {_weakest(min(others or keys, key=lambda pair: pair.strength))}"


def _weakest(pair: Pair) -> str:
    """Return the worst run of a pair that has a key."""
    run = pair.worst
    assert run is not None
    told = f"weakest key is of run {run.run} ({_case(pair)}): there Eve"
    pooled = f" Over all runs pooled she missed {words.percent(pair.e_given_b)}, but a run is no better for the others."
    pooled *= pair.runs > 1 and pair.verdict != BROKEN
    if run.verdict == BROKEN:
        return f"{told} heard everything that Bob heard, and no number of packets helps.{pooled}"
    takes = pair.packets_to_send[str(BITS[-1])]
    helps = "no number of packets helps" if takes is None else f"{words.count(takes)} packets are to be sent"
    return (
        f"{told} missed {words.percent(run.e_given_b)} of what Bob heard, at least {words.percent(run.bound)} with "
        f"95 % confidence, which is worth {words.bits(run.secret_bits)} bits; for {BITS[-1]} bits {helps}.{pooled}"
    )


def _case(pair: Pair) -> str:
    return f"Bob {pair.bob}, Eve {pair.eve}, {pair.setting}"


def _measured_with(runs: Sequence[StoredRun], manifests: Mapping[int, Mapping[str, Any]]) -> Iterator[ReportTable]:
    first = {run.manifest: run.id for run in reversed(runs)}
    columns: Columns[tuple[str, str]] = [("what", itemgetter(0)), ("value", itemgetter(1))]
    for number, manifest in manifests.items():
        if number in first:
            facts = [(words.note(name), value) for name, value in _flat(manifest) if name[0] != "plan"]
            yield table(f"From run {first[number]} on", columns, facts, most=None)


def _runs(runs: Sequence[StoredRun]) -> ReportTable:
    """Return the runs as they were sent, one line for repeats that differ in nothing."""
    same_for_all: Columns[StoredRun] = [
        ("m", lambda run: words.metres(run.info.distance_m)),
        ("others at", lambda run: _others(run.info.distances_m)),
        ("bearer", lambda run: words.bearer(run.info.bearer)),
        ("size", lambda run: f"{run.info.size_bytes} B"),
        ("power", lambda run: "-" if run.info.tx_power_dbm is None else f"{run.info.tx_power_dbm:g} dBm"),
        ("sender", lambda run: run.info.sender),
        ("withdrawn", lambda run: run.withdrawn or ""),
        ("notes", lambda run: _notes(run.info.notes)),
    ]
    alike: dict[tuple[object, ...], list[StoredRun]] = {}
    for run in runs:
        alike.setdefault(tuple(cell(run) for _, cell in same_for_all), []).append(run)

    def spacing(same: Sequence[StoredRun]) -> str:
        each = {run.info.spacing_ms for run in same}
        return f"{min(each):.3g}" + (f"\N{EN DASH}{max(each):.3g}" if len(each) > 1 else "")

    columns: Columns[list[StoredRun]] = [
        *((name, lambda same, cell=cell: cell(same[0])) for name, cell in same_for_all),
        ("runs", len),
        ("N", lambda same: ", ".join(map(str, sorted({run.info.packets for run in same})))),
        ("spacing, ms", spacing),
    ]
    return table("The runs", columns, alike.values())


def _seen(runs: Sequence[StoredRun]) -> ReportTable:
    """Return what the nodes saw of themselves and around them, wherever it changed."""
    rows: list[tuple[int, str, str]] = []
    last: dict[str, str] = {}
    for run in runs:
        nodes = run.info.notes.get("nodes")
        for node, facts in nodes.items() if isinstance(nodes, Mapping) else ():
            text = _said(facts)
            if text and last.get(node, "") != text:
                last[node] = text
                rows.append((run.id, str(node), text))
    return table(
        "What the nodes saw", [("from run", itemgetter(0)), ("node", itemgetter(1)), ("seen", itemgetter(2))], rows
    )


def _flat(value: Any, *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Return the way to each thing that is there, and what it is."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, *path, str(key))
    elif isinstance(value, list | tuple):
        yield from [(path, ", ".join(text for item in value for _, text in _flat(item)))] if value else []
    elif value not in (None, ""):
        yield path, {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _said(facts: Mapping[str, Any]) -> str:
    return "; ".join(words.note(path, text) for path, text in _flat(facts))


def _notes(notes: Mapping[str, Any]) -> str:
    """Return what is left to be said of a run; what a person noted comes first, as it is."""
    rest = {name: value for name, value in notes.items() if name not in OWN_PLACE}
    return "; ".join(filter(None, (str(rest.pop("person", "")), _said(rest))))


def _others(metres: Mapping[str, float]) -> str:
    if len(metres) > MOST_NAMED:
        return f"{len(metres)} listeners, {min(metres.values()):.3g} to {max(metres.values()):.3g} m"
    return ", ".join(f"{name} {metre:.3g} m" for name, metre in metres.items())


def _plan(plan: Mapping[str, Any]) -> str:
    """Return a plan as the TOML file from which it came, defaults and all."""
    lines = []
    for name, values in plan.items():
        lines += [f"[{name}]"] if isinstance(values, Mapping) else []
        for key, value in values.items() if isinstance(values, Mapping) else [(name, values)]:
            text = f"[{', '.join(map(toml, value))}]" if isinstance(value, list) else toml(value)
            lines += [f"{key} = {text}"] * (value not in ([], None))
        lines.append("")
    return "\n".join(lines)
