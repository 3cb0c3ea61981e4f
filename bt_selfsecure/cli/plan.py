"""`bt-selfsecure plan`: how many packets, how long, for a key of so many secret bits?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

from bt_selfsecure.cli.numbers import integer, real
from bt_selfsecure.errors import UsageError
from bt_selfsecure.stats.losses import KEY_BITS, JointLoss, lower_bound, packets_needed, packets_to_send, secret_bits

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

BOB_LOSS = 0.1
CONFIDENCE = 0.95
SURE = 0.99
"""P(Bob keeps enough of the planned burst)."""
MAX_PACKETS = 10**9
"""Above that it is no plan: four months of sending at 10 ms a packet."""
PLOT_FORMATS = (".svg", ".png")

DESCRIPTION = """\
Plan a burst: from the loss of the eavesdropper Eve, the packets that Bob must
keep for a key of the wanted strength, the packets that Alice must send so that
Bob keeps as many with 99 % probability, and the time that takes.

Eve breaks the key only if she hears every packet that Bob keeps. If she misses
each with probability p, |S| packets are worth |S| * -log2(1-p) secret bits.
Only her loss counts, among the packets that Bob hears; Bob's own loss just
costs time. Everything holds only as far as Eve's loss is known: say how you
know it with one of --eve-loss, --measured and --recording."""

EPILOG = """\
examples:
  bt-selfsecure plan --eve-loss 0.1 --eves 2
      Two Eves, each missing 10 %, put their captures together: 1 % is left.
  bt-selfsecure plan --recording 33 --bob 3 --eve 6 --eve 9 --json
      Bob is receiver 3 of the office recording, Eve has receivers 6 and 9,
      and the transmitter stands at position 33. Their losses together are
      counted, not assumed.
"""


class EveLoss(NamedTuple):
    """Holds what the plan is built on."""

    value: float
    """e|B of one Eve, or of all that were recorded together: given, or a lower confidence bound."""
    source: str
    """One sentence: where the figure comes from."""
    table: JointLoss | None = None
    """What the recording counted."""
    hands_on_damaged: bool | None = None
    """Whether her receiver hands on damaged copies; None where nothing tells."""


class EstablishmentPlan(NamedTuple):
    """Holds the answer; its fields are the keys of `--json`."""

    packets: int
    """N, to be sent."""
    received: int
    """|S|, to be kept by Bob."""
    seconds: float
    bytes: int
    secret_bits: float
    target_bits: float
    eve_loss: float
    """e|B of all Eves together, as planned with."""
    eve_loss_source: str
    eve_hands_on_damaged: bool | None
    """False: her receiver drops damaged copies, and it is no plan against a sniffer; None: not known."""
    eves: int
    bob_loss: float
    bob_loss_source: str
    packet_bytes: int
    interval_ms: float


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `plan` and its options."""
    parser = subparsers.add_parser(
        "plan",
        usage="""%(prog)s --eve-loss P [options]
       %(prog)s --measured MISSED/HEARD [options]
       %(prog)s --recording POSITION --bob R --eve R [options]""",
        help="packets, seconds and bytes for a key of a given strength",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    known = parser.add_argument_group("Eve's loss, one of").add_mutually_exclusive_group(required=True)
    known.add_argument(
        "--eve-loss", type=real(above=0, below=1), metavar="P", help="share she misses of what Bob hears, 0..1"
    )
    known.add_argument(
        "--measured",
        metavar="MISSED/HEARD",
        help="she missed so many of so many that Bob heard; planned with the lower Clopper-Pearson bound. What she has "
        "damaged copies of she did not miss",
    )
    known.add_argument(
        "--recording", metavar="POSITION", help="the office recording from this position, 0..80, or 'all'"
    )
    losses = parser.add_argument_group("more about the losses")
    losses.add_argument(
        "--confidence", type=real(least=0.5, below=1), metavar="C", help=f"of that bound (default {CONFIDENCE})"
    )
    losses.add_argument("--bob", metavar="R", help="with --recording: Bob's receiver, by number or name")
    losses.add_argument("--eve", action="append", metavar="R", help="with --recording: a receiver of Eve's; repeatable")
    losses.add_argument(
        "--eves",
        type=integer(least=1),
        metavar="K",
        help="so many Eves collude, each with that loss, and independently of each other, so that p becomes p^K: an "
        "assumption; two receivers of the office recording can miss 8 times less than that together (default 1)",
    )
    losses.add_argument(
        "--bob-loss",
        type=real(least=0, below=1),
        metavar="D",
        help=f"share that Bob misses (default: recorded, else {BOB_LOSS})",
    )
    burst = parser.add_argument_group("the burst")
    burst.add_argument(
        "--target-bits",
        type=real(above=0, most=KEY_BITS),
        default=128,
        metavar="BITS",
        help="secret bits, to 256 (default 128)",
    )
    burst.add_argument(
        "--packet-bytes", type=integer(least=1), default=61, metavar="BYTES", help="of a burst packet (default 61)"
    )
    burst.add_argument(
        "--interval-ms", type=real(above=0), default=10, metavar="MS", help="between two packets (default 10)"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    output.add_argument("--plot", metavar="FILE", help="draw packets over Eve's loss: FILE.svg or FILE.png")


def run(args: Namespace) -> int:
    """Print the plan. UsageError, before anything is written, for input that can't be planned with."""
    plan = _plan(args, _eve_loss(args))
    if args.plot is not None:
        _plot(plan, args.plot)
    if args.json:
        import json

        print(json.dumps(plan._asdict(), indent=2))
    else:
        print(_table(plan))
    if args.plot is not None and not args.json:
        print(f"\nPackets over Eve's loss are drawn in {args.plot}")
    return 0


def _eve_loss(args: Namespace) -> EveLoss:
    if args.recording is None and (args.bob or args.eve):
        raise UsageError("--bob and --eve name receivers of a recording: add --recording POSITION")
    confidence = CONFIDENCE if args.confidence is None else args.confidence
    if args.measured is not None:
        missed, heard = _fraction(args.measured)
        bound = lower_bound(missed, heard, confidence)
        return EveLoss(bound, f"measured {missed} of {heard}, {100 * confidence:g} % bound")
    if args.recording is not None:
        return _recorded(args, confidence)
    if args.confidence is not None:
        raise UsageError("--confidence is of a bound that was measured: leave it out, or give --measured MISSED/HEARD")
    return EveLoss(args.eve_loss, "given, not measured")


def _fraction(text: str) -> tuple[int, int]:
    missed, _, heard = text.partition("/")
    if not (missed.isdecimal() and heard.isdecimal()):
        raise UsageError(f"{text!r} is not MISSED/HEARD: write it as in 45/450")
    return int(missed), int(heard)


def _recorded(args: Namespace, confidence: float) -> EveLoss:
    if not args.bob or not args.eve:
        raise UsageError("--recording needs to know who is who: add --bob R and --eve R, as in --bob 3 --eve 6")
    if args.eves is not None:
        raise UsageError("with --recording the Eves are counted, not assumed: give --eve once for each, without --eves")
    if args.recording != "all" and not args.recording.isdecimal():
        raise UsageError(f"{args.recording!r} is not a position of the recording: choose 0..80 or all")
    from bt_selfsecure.air.recording import Recording

    table = Recording.load().joint_loss(None if args.recording == "all" else int(args.recording), args.bob, args.eve)
    bound = lower_bound(table.bob_only, table.received, confidence)
    source = f"recorded {table.bob_only} of {table.received}, {100 * confidence:g} % bound"
    return EveLoss(bound, source, table, hands_on_damaged=False)


def _plan(args: Namespace, eve: EveLoss) -> EstablishmentPlan:
    eves = len(args.eve) if args.eve else 1 if args.eves is None else args.eves
    if args.bob_loss is not None:
        bob_loss, bob_source = args.bob_loss, "given"
    elif eve.table is not None:
        bob_loss, bob_source = eve.table.d, "recorded"
    else:
        bob_loss, bob_source = BOB_LOSS, "assumed"
    together = eve.value if args.eve else eve.value**eves
    received = packets_needed(args.target_bits, together)
    packets = received if received > MAX_PACKETS else packets_to_send(received, bob_loss, SURE)
    if packets > MAX_PACKETS:
        raise UsageError(
            f"with losses of {together:.2g} at Eve and {bob_loss:.10g} at Bob it would take {packets:.2g} packets: "
            "lower the target, or plan against fewer Eves"
        )
    return EstablishmentPlan(
        packets=packets,
        received=received,
        seconds=packets * args.interval_ms / 1000,
        bytes=packets * args.packet_bytes,
        secret_bits=secret_bits(received, together),
        target_bits=args.target_bits,
        eve_loss=together,
        eve_loss_source=eve.source,
        eve_hands_on_damaged=eve.hands_on_damaged,
        eves=eves,
        bob_loss=bob_loss,
        bob_loss_source=bob_source,
        packet_bytes=args.packet_bytes,
        interval_ms=args.interval_ms,
    )


def _table(plan: EstablishmentPlan) -> str:
    """The plan for people, in 80 columns."""
    who = "Eve misses" if plan.eves == 1 else f"{plan.eves} Eves all miss"
    rows = [
        (f"{who} (e|B)", _percent(plan.eve_loss), plan.eve_loss_source),
        ("Bob misses (d)", _percent(plan.bob_loss), plan.bob_loss_source),
        ("packets Bob keeps (|S|)", f"{plan.received:,}", f"worth {plan.secret_bits:.1f} secret bits"),
        ("packets to send (N)", f"{plan.packets:,}", f"Bob keeps enough with {_percent(SURE)} probability"),
        ("time", f"{plan.seconds:,.1f} s", f"at {plan.interval_ms:g} ms a packet"),
        ("on the air", f"{plan.bytes:,} B", f"at {plan.packet_bytes} bytes a packet"),
    ]
    lines = [f"A key of {plan.target_bits:g} secret bits", ""]
    lines += [f"  {what:<23}{value:>12}  {note}" for what, value, note in rows]
    lines += [
        "",
        "It holds as long as Eve misses that share of what Bob hears, packet by packet.",
        "A receiver nearer to Alice misses less, and so do several together: --eves.",
        "The recorded ones drop damaged copies: this is no plan against a sniffer."
        if plan.eve_hands_on_damaged is False
        else "Of what counts as missed she must have no damaged copy: she would make it good.",
    ]
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _plot(plan: EstablishmentPlan, name: str) -> None:
    """Packets to send, over a decade of Eve's loss around the plan's. UsageError if it can't be drawn or written."""
    from pathlib import Path

    from bt_selfsecure.files import whole

    file = Path(name)
    if file.suffix not in PLOT_FORMATS:
        raise UsageError(f"can't draw {str(file)!r}: give a file name that ends in {' or '.join(PLOT_FORMATS)}")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("--plot needs matplotlib: install it with pip install 'bt-selfsecure[plots]'") from error
    decade = [plan.eve_loss * 10 ** (step / 32) for step in range(-32, 33)]
    losses = [loss for loss in decade if loss < 1]
    needed = [packets_to_send(packets_needed(plan.target_bits, loss), plan.bob_loss, SURE) for loss in losses]
    with whole(file) as part, rc_context({"svg.hashsalt": "bt-selfsecure plan"}):
        axes = (figure := Figure(figsize=(7, 4.3), layout="constrained")).add_subplot()
        axes.loglog(losses, needed)
        axes.loglog([plan.eve_loss], [plan.packets], "o", color="C0")
        axes.annotate(
            f"  {_percent(plan.eve_loss)}: {plan.packets:,} packets, {plan.seconds:,.1f} s",
            (plan.eve_loss, plan.packets),
            va="bottom",
        )
        axes.set(
            xlabel="share that Eve misses of what Bob hears",
            ylabel="packets to send",
            title=f"{plan.target_bits:g} secret bits, Bob misses {_percent(plan.bob_loss)} ({plan.bob_loss_source})",
        )
        axes.grid(which="both", alpha=0.3)
        figure.savefig(part, format=file.suffix[1:], metadata={"Date": None} if file.suffix == ".svg" else None)
