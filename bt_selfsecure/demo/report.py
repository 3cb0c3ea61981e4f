"""report.html: one run, for people. One file without outside resources, for a screen, a phone and paper."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from bt_selfsecure import __version__
from bt_selfsecure.demo.scenario import Outcome
from bt_selfsecure.demo.summary import FinishedRun, air, limits, naive, percent, steering, thief
from bt_selfsecure.look import figure, page
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.stats.losses import JointLoss, clopper_pearson
from bt_selfsecure.wording import counted

try:
    from bt_selfsecure.demo import figures

    DRAWS = True
except ImportError:  # of matplotlib, which not every Pi can have
    DRAWS = False


def html(run: FinishedRun) -> str:
    """The page. Equal runs give equal pages."""
    outcome = run.outcome
    sections = [_head(run), _what_this_is(), _packets(outcome), losses(outcome.joint), _strength(run)]
    if outcome.file_sha256_sent:
        sections.append(_session(run))
    sections += [_eve(run), _limits(run), _again(run)]
    return page("bt_selfsecure: a key from lost packets", "\n".join(sections))


def _head(run: FinishedRun) -> str:
    outcome, joint = run.outcome, run.outcome.joint
    facts = [
        (f"{joint.received} of {joint.sent}", "packets are in the key" if outcome.established else "reached Bob"),
        (str(joint.bob_only), "of those Eve never heard"),
        (
            f"{outcome.secret_bits:.0f} bits",
            f"{'left' if outcome.eve_has_key else 'proved by this burst'}, target {outcome.target_bits:g}",
        ),
    ]
    if outcome.file_sha256_sent:
        rounds, who = outcome.rounds_until_thief_is_out, "K_0" if outcome.eve_has_key else "the stolen key"
        if rounds is None:
            facts.append(("still in", f"was Eve, with {who}, when the file was over"))
        else:
            facts.append((counted(rounds, "round"), f"until Eve, with {who}, was out"))
    boxes = "".join(f"<div><b>{escape(figure)}</b><span>{escape(what)}</span></div>" for figure, what in facts)
    return (
        f"<h1>A key from lost packets</h1>\n"
        f'<p class="air">{escape(air(run.production.request))}. Profile {outcome.profile}, '
        f"bearer {run.production.request.bearer}.</p>\n"
        f'<p class="lead{"" if outcome.success else " bad"}">{escape(outcome.verdict)} {escape(_file(outcome))}</p>\n'
        f'<div class="facts">{boxes}</div>'
    )


def _file(outcome: Outcome) -> str:
    if not outcome.file_sha256_sent:
        return "No file was sent."
    return "The file came across, equal to the byte." if outcome.delivered else "The file did not come across."


def _what_this_is() -> str:
    return """<h2>What this is</h2>
<p>Alice sends a burst of random packets by Bluetooth. Radio loses some of them: Bob keeps those that he heard, tells
Alice which (in public), and both hash these packets into a key. An eavesdropper, Eve, loses packets too, but others. If
she lacks one packet of the key, she lacks the key. How many she lacks is what makes it strong, and it can be measured.
After that the key rolls at every message, so that a stolen key dies as soon as its thief misses one of them. The scheme
is Hao and Xiao's <cite>Self-secure Communication for Internet of Things</cite>.</p>"""


def _packets(outcome: Outcome) -> str:
    if not outcome.fates:
        return "<h2>Who heard what</h2>\n<p>No packet of the burst was sent.</p>"
    return (
        "<h2>Who heard what</h2>\n"
        + _figure(
            lambda: figures.packet_map(outcome.fates),
            "Each mark is one packet of the burst, in the order of sending. The diamonds are the secret: packets that "
            f"are in the key and that Eve does not have.{' There is none.' if outcome.eve_has_key else ''}",
        )
        + _figure(
            lambda: figures.growth(outcome),
            f"Secret bits while the burst went on. {_when_it_ends(outcome)}",
        )
    )


def _figure(draw: Callable[[], str], caption: str) -> str:
    """The figure; nothing without matplotlib."""
    return figure(draw(), caption) if DRAWS else ""


def _when_it_ends(outcome: Outcome) -> str:
    if outcome.profile == Profile.PAPER.label:
        return "The paper sends one burst, whatever it is worth."
    return (
        "Alice stops when those by the bound that she was given reach the target; what this burst itself proves is "
        "known only to somebody who can ask Eve."
    )


def losses(joint: JointLoss) -> str:
    """The section on who lost what."""

    def cell(count: int) -> str:
        return f"<td>{count}<br><span class='note'>{percent(count / joint.sent) if joint.sent else '-'}</span></td>"

    rows = [
        ("Bob misses (d)", joint.sent - joint.received, joint.sent),
        ("Eve misses (e)", joint.bob_only + joint.neither, joint.sent),
        ("Eve misses of Bob's (e|B)", joint.bob_only, joint.received),
    ]
    intervals = "".join(_interval(name, count, of) for name, count, of in rows)
    return f"""<h2>The losses</h2>
<table>
<thead><tr><th>packets</th><th>Eve heard</th><th>Eve missed</th></tr></thead>
<tbody><tr><th>Bob kept</th>{cell(joint.both)}{cell(joint.bob_only)}</tr>
<tr><th>Bob did not</th>{cell(joint.eve_only)}{cell(joint.neither)}</tr></tbody></table>
<table>
<thead><tr><th>loss</th><th>measured</th><th>95 % interval</th></tr></thead><tbody>{intervals}</tbody></table>
<p class="note">Intervals are Clopper and Pearson's, for packets lost independently of each other. The two losses have
correlation {joint.phi:.3f}; a loss that both share is worth nothing, which is why e|B counts and not e.</p>"""


def _interval(name: str, count: int, of: int) -> str:
    low, high = clopper_pearson(count, of)
    share = percent(count / of) if of else "-"
    return (
        f"<tr><th>{name}</th><td>{share}<br><span class='note'>{count} of {of}</span></td>"
        f"<td>{percent(low)}<br>to {percent(high)}</td></tr>"
    )


def _strength(run: FinishedRun) -> str:
    outcome, survey = run.outcome, run.production.survey
    if not outcome.joint.received:
        return ""
    if outcome.eve_has_key and outcome.attacks_reported:
        return (
            "<h2>What a longer burst gives</h2>\n<p>Nothing: whatever this Eve misses of it she has struck out. By the "
            f"bound that Alice was given ({percent(outcome.eve_loss_bound)} of what Bob hears) the packets would be "
            f"worth {outcome.planned_bits:.0f} secret bits against one who only listens.</p>"
        )
    if run.production.request.eve_loss_bound is not None:
        source = "That Eve misses so much is an assumption, given with --eve-loss-bound."
    elif survey.bound:
        source = survey.sentence
    else:
        source = f"{survey.sentence} The figure only stands for that."
    return (
        "<h2>What a longer burst gives</h2>\n"
        + _figure(
            lambda: figures.longer_burst(outcome.joint, outcome.target_bits),
            "A passive Eve holds every packet of the key with probability (1 - e|B) to the power |S|. Each further "
            "packet in the key multiplies her chance by 1 - e|B.",
        )
        + f"<p>Alice was told that Eve misses at least {percent(outcome.eve_loss_bound)} of what Bob hears. {source} "
        f"By that bound the packets are worth {outcome.planned_bits:.0f} secret bits; by the loss in this very burst, "
        f"with 95 % confidence, {outcome.secret_bits:.0f}. No key is called stronger than 256 bits.</p>"
    )


def _session(run: FinishedRun) -> str:
    outcome = run.outcome
    equal = "equal at both ends" if outcome.delivered else "of the original; Bob's copy differs"
    return (
        "<h2>The session</h2>\n"
        f"<p>{escape(run.production.plot.file_name)}, {outcome.file_bytes} bytes, in "
        f"{counted(outcome.rounds, 'round')} (Bob's receipt included) with "
        f"{counted(outcome.retransmissions, 'retransmission')}. SHA-256, {equal}: "
        f'<code class="hash">{outcome.file_sha256_sent}</code></p>\n'
        + _figure(
            lambda: figures.session(outcome),
            f"How often Alice sent the message of each round. Above it the life of "
            f"{'the key that Eve computed' if outcome.eve_has_key else 'the stolen key'}: ticks are messages that she "
            f"read, the cross is the one that she missed. {thief(outcome).capitalize()}.",
        )
    )


def _eve(run: FinishedRun) -> str:
    outcome, joint = run.outcome, run.outcome.joint
    key = "K_0, from the first on, as long as she missed none" if outcome.eve_has_key else "the stolen key"
    read = f"{len(outcome.read)}, all with {key}" if outcome.read else "none"
    rows = [
        ("packets of the key", f"{joint.both} of {joint.received}"),
        ("K_0", "YES: computed, and equal to the two ends'" if outcome.eve_has_key else "no"),
        ("messages of the file", read),
        ("forged packets noticed", str(outcome.attacks_reported)),
    ]
    table = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    flaws = ""
    if run.naive_shown:
        flaws = (
            f"<p><b>The paper's two flaws.</b> Steering: {escape(steering(outcome))} The lost ACK: "
            f"{escape(naive(run))} The profile <code>hardened</code> ends an establishment at the "
            "first contradiction.</p>"
        )
    return f'<h2>What Eve has</h2>\n<table class="text"><tbody>{table}</tbody></table>{flaws}'


def _limits(run: FinishedRun) -> str:
    eves = counted(len(run.production.eves), "radio")
    return f"""<h2>Limits, and the attacker assumed</h2>
<p>{limits(run.outcome)}</p>
<ul>
<li>Eve here has {eves}, today's computing power and no part in the conversation, unless an attack was asked for. A
better antenna, a nearer place or more radios than those that were measured lower e|B, and the bits with it.</li>
<li>Somebody in the middle is found only if people compare the short string, or if an authentication key is
configured. This run was {"authenticated" if run.outcome.authenticated else "<b>not authenticated</b>"}.</li>
<li>A thief of K_i who also sends can impersonate until the next establishment; here she only listens.</li>
<li>The direction from Bob to Alice was not recorded: it is taken to lose as the other one does.</li>
</ul>"""


def _again(run: FinishedRun) -> str:
    outcome = run.outcome
    rows = [("fingerprint of the key", outcome.fingerprint or "-"), ("to compare aloud", outcome.sas or "-")]
    table = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"""<h2>See it again</h2>
<pre>{escape(run.command)}</pre>
<p>bt_selfsecure {__version__}. The same seed gives the same packets, losses and keys. Beside this page:
<code>eve.pcapng</code> is what Eve heard (open it with Wireshark), <code>trace.jsonl</code> every step of both ends,
<code>summary.json</code> these figures for programs. None of them holds a secret.</p>
<table class="text"><tbody>{table}</tbody></table>"""
