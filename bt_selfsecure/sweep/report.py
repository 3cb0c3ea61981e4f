"""A sweep for people, in one HTML file without outside resources: what came out, how sure that is, how to repeat it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from bt_selfsecure import __version__
from bt_selfsecure.look import figure, page
from bt_selfsecure.node.tables import toml
from bt_selfsecure.sweep import report_tables, words
from bt_selfsecure.sweep.figures import drawn
from bt_selfsecure.sweep.report_tables import MOST_ROWS
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
    """The page. Equal sweeps give equal pages."""
    runs, manifests = store.runs(withdrawn=True), store.manifests()
    body = [
        _head(analysis, runs),
        _what_this_is(analysis),
        _warnings(analysis),
        "<h2>Figures</h2>\n" + "".join(figure(svg, CAPTIONS[name]) for name, svg in drawn(analysis)),
        report_tables.listeners(analysis),
        report_tables.pairs(analysis),
        report_tables.colluding(analysis),
        _again(runs, manifests),
        _measured_with(runs, manifests),
        _runs(runs),
        _limits(),
    ]
    return page(f"bt_selfsecure: {analysis.sweep}", "\n".join(part for part in body if part))


def _head(analysis: Analysis, runs: Sequence[StoredRun]) -> str:
    times = sorted(run.info.started for run in runs if run.info.started)
    timed = times and not analysis.times_astray()
    when = f", {times[0]:%Y-%m-%d %H:%M} to {times[-1]:%Y-%m-%d %H:%M} UTC" if timed else ""
    bearers = " and ".join(sorted({row.setting.bearer for row in analysis.listeners}))
    pairs = analysis.planned()
    worst = min((pair for pair in pairs if pair.worst), key=lambda pair: pair.strength, default=None)
    distances = sorted({row.distance_m for row in analysis.each_run if row.distance_m is not None})
    facts = [
        (f"{analysis.runs}", "runs" + (f", and {analysis.withdrawn} withdrawn" if analysis.withdrawn else "")),
        (f"{sum({row.run: row.sent for row in analysis.each_run}.values()):,}", "packets on the air"),
    ]
    if distances:
        facts.append((f"{words.metres(distances[0], distances[-1])} m", "from the sender"))
    if worst:
        facts.append((f"{words.bits(worst.secret_bits)} bits", "the weakest key of all runs"))
    boxes = "".join(f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in facts)
    bad = worst is None or worst.verdict != "holds"
    return (
        f"<h1>Distance sweep: {escape(analysis.sweep)}</h1>\n"
        f'<p class="air">Over {escape(bearers)}{when}.</p>\n'
        f'<p class="lead{" bad" * bad}">{escape(_verdict(pairs))}</p>\n<div class="facts">{boxes}</div>'
    )


def _verdict(pairs: Sequence[Pair]) -> str:
    """The result in a few sentences."""
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
    """The worst run of a pair that has a key."""
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


def _what_this_is(analysis: Analysis) -> str:
    parts = "".join(
        f"<li>When <b>{escape(sender)}</b> sends, "
        + " and ".join(f"<b>{escape(name)}</b> is {'Bob' if part == 'bob' else 'Eve'}" for name, part in roles.items())
        + ".</li>"
        for sender, roles in analysis.roles.items()
    )
    return f"""<h2>What was measured</h2>
<p>A sender sends runs of numbered packets, one after the other. Radio loses some of them at each listener. Those that
Bob hears would become the key; an eavesdropper, Eve, who misses one of them has no key. So the figure that counts is
<b>e|B</b>, the share of <i>Bob's</i> packets that Eve misses: not how many Bob loses (that costs time only), and not
how many Eve loses (a loss that both share is worth nothing). Every listener is judged as Bob against every other one as
Eve. With |S| packets in a key Eve has all of them with probability (1 - e|B)<sup>|S|</sup>; in bits, that is its worth.
Each run is judged by its own e|B, at the lower 95 % bound, and the worst run decides; figures of all runs together are
called pooled. The scheme is Hao and Xiao's <cite>Self-secure Communication for Internet of Things</cite>.</p>
{f"<ul>{parts}</ul>" if parts else ""}"""


def _warnings(analysis: Analysis) -> str:
    if not analysis.warnings:
        return "<h2>Warnings</h2>\n<p>No figure rests on an assumption that these data contradict.</p>"
    items = "".join(f"<li>{escape(warning)}</li>" for warning in analysis.warnings)
    return f"<h2>Warnings</h2>\n<p>To read before a figure is believed.</p>\n<ul>{items}</ul>"


def _again(runs: Sequence[StoredRun], manifests: Mapping[int, Mapping[str, Any]]) -> str:
    """What a stranger does to get the same table from his own place."""
    plans = list(dict.fromkeys(_plan(each["plan"]) for each in manifests.values() if each.get("plan")))
    info = runs[0].info
    names = sorted({name for run in runs for name in run.listeners})
    how = (
        "Save the plan below as plan.toml. Run <code>bt-selfsecure sweep agent</code> on every other node, and on the "
        "one in your hand <code>bt-selfsecure sweep run plan.toml</code>. It says when to move what, and goes on where "
        "it stopped if it is interrupted. A bearer that begins with <code>air:</code> is a rehearsal without radios."
        if plans
        else "These runs were imported: send as many packets as the table of runs says, with its size and spacing, let "
        "each listener write down which it heard, and <code>bt-selfsecure sweep import</code> that."
    )
    text = "".join(f"<pre>{escape(plan.strip())}</pre>" for plan in plans)
    return f"""<h2>Do it again</h2>
<ol><li>Take a sender (here {escape(info.sender)}) and {len(names)} listeners ({escape(", ".join(names))}), each a
Raspberry Pi with bt_selfsecure installed (<code>pi_setup/install</code>), and a tape measure.</li>
<li>Put the sender down and leave it. Put the listeners where the table of runs says, at the same height, in the same
orientation; note walls, people and Wi-Fi nearby.</li>
<li>{how}</li>
<li><code>bt-selfsecure sweep report --out report.html</code> makes this page, and <code>bt-selfsecure sweep compare
</code> puts two sweeps side by side.</li></ol>
{text}"""


def _measured_with(runs: Sequence[StoredRun], manifests: Mapping[int, Mapping[str, Any]]) -> str:
    first = {run.manifest: run.id for run in reversed(runs)}
    blocks = []
    for number, manifest in manifests.items():
        if number not in first:
            continue
        rows = [(words.note(name), value) for name, value in _flat(manifest) if name[0] != "plan"]
        label = f"From run {first[number]} on"
        blocks.append(f"<h3>{label}</h3>\n" + report_tables.table(label, ("what", "value"), rows))
    return (
        "<h2>Measured with</h2>\n"
        + "\n".join(blocks)
        + '<p class="note">Addresses are hashed with a salt that stays in the record and is not in this page.</p>'
    )


def _runs(runs: Sequence[StoredRun]) -> str:
    """The runs as they were sent, one line for repeats that differ in nothing."""

    def place(run: StoredRun) -> tuple[Any, ...]:
        info = run.info
        return (
            words.metres(info.distance_m),
            _others(info.distances_m),
            words.bearer(info.bearer),
            f"{info.size_bytes} B",
            "-" if info.tx_power_dbm is None else f"{info.tx_power_dbm:g} dBm",
            info.sender,
            run.withdrawn or "",
            _notes(info.notes),
        )

    names = ("m", "others at", "bearer", "size", "power", "sender", "withdrawn", "notes", "runs", "N", "spacing, ms")
    alike: dict[tuple[Any, ...], list[StoredRun]] = {}
    for run in runs:
        alike.setdefault(place(run), []).append(run)
    rows = []
    for key, same in alike.items():
        spacings = [run.info.spacing_ms for run in same]
        spacing = f"{min(spacings):.3g}" + (f"\N{EN DASH}{max(spacings):.3g}" if len(set(spacings)) > 1 else "")
        packets = ", ".join(map(str, sorted({run.info.packets for run in same})))
        rows.append((*key, str(len(same)), packets, spacing))
    more = f"<p>{len(rows) - MOST_ROWS} more lines are in the record.</p>" if len(rows) > MOST_ROWS else ""
    return "<h2>The runs</h2>\n" + report_tables.table("The runs", names, rows[:MOST_ROWS]) + more + _seen(runs)


def _seen(runs: Sequence[StoredRun]) -> str:
    """What the nodes saw of themselves and around them, wherever it changed."""
    rows: list[tuple[str, str, str]] = []
    last: dict[str, str] = {}
    for run in runs:
        nodes = run.info.notes.get("nodes")
        for node, facts in nodes.items() if isinstance(nodes, Mapping) else ():
            text = _said(facts)
            if text and last.get(node, "") != text:
                last[node] = text
                rows.append((str(run.id), str(node), text))
    if not rows:
        return ""
    title = "What the nodes saw"
    return f"<h3>{title}</h3>\n" + report_tables.table(title, ("from run", "node", "seen"), rows[:MOST_ROWS])


def _limits() -> str:
    return f"""<h2>Limits, and the attacker assumed</h2>
<ul>
<li>These figures are of these radios at these places and times. An Eve who is nearer, has a better antenna, or more
receivers misses less, and nobody can measure one who does not take part.</li>
<li>Eve here listens only. Somebody who injects packets or stands in the middle is another matter: see
docs/security.md.</li>
<li>Packets that never left the sender's queue are in no figure. A receiver that scans one channel at a time misses
packets that were in the air; an Eve with three receivers does not.</li>
<li>That none of R runs was broken proves no more than that less than about 3/R of them are.</li>
</ul>
<p class="note">Made by bt_selfsecure {__version__}. docs/sweep.md explains the record and every figure.</p>"""


def _flat(value: Any, *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The way to each thing that is there, and what it is."""
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
    """What is left to be said of a run; what a person noted comes first, as it is."""
    rest = {name: value for name, value in notes.items() if name not in OWN_PLACE}
    return "; ".join(filter(None, (str(rest.pop("person", "")), _said(rest))))


def _others(metres: Mapping[str, float]) -> str:
    if len(metres) > MOST_NAMED:
        return f"{len(metres)} listeners, {min(metres.values()):.3g} to {max(metres.values()):.3g} m"
    return ", ".join(f"{name} {metre:.3g} m" for name, metre in metres.items())


def _plan(plan: Mapping[str, Any]) -> str:
    """As the TOML file from which it came, defaults and all."""
    lines = []
    for name, table in plan.items():
        lines += [f"[{name}]"] if isinstance(table, Mapping) else []
        for key, value in table.items() if isinstance(table, Mapping) else [(name, table)]:
            text = f"[{', '.join(map(toml, value))}]" if isinstance(value, list) else toml(value)
            lines += [f"{key} = {text}"] * (value not in ([], None))
        lines.append("")
    return "\n".join(lines)
