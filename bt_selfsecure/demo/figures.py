"""The report's figures as SVG text, drawn by matplotlib (extra `plots`). Readable without colour and in print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bt_selfsecure.demo.outcome import CONFIDENCE, Outcome, ReceptionOutcome
from bt_selfsecure.look import BLUE, GREY, ORANGE, PURPLE, SKY, STYLE, WIDTH, svg
from bt_selfsecure.stats.losses import JointLoss, bits_per_packet, clopper_pearson, lower_bound, secret_bits

_ROW: Final = 40  # packets in a row of the map
_POINTS: Final = 80


def packet_map(fates: list[ReceptionOutcome]) -> str:
    """Draw one mark a packet, in rows: squares where both heard, diamonds where Bob alone did."""
    rows = max(1, -(-len(fates) // _ROW))
    shapes = (
        (ReceptionOutcome.BOTH, "s", SKY, SKY, 22),
        (ReceptionOutcome.BOB_ONLY, "D", ORANGE, "black", 24),
        (ReceptionOutcome.EVE_ONLY, "o", "none", PURPLE, 22),
        (ReceptionOutcome.NEITHER, "P", GREY, "none", 20),
    )
    with rc_context(STYLE):
        figure, axes = _axes(0.9 + 0.115 * rows)
        for fate, marker, face, edge, size in shapes:
            seqs = [seq for seq, each in enumerate(fates) if each is fate]
            columns, lines = [seq % _ROW for seq in seqs], [seq // _ROW for seq in seqs]
            label = f"{fate.value} {len(seqs)}"
            axes.scatter(
                columns, lines, s=size, marker=marker, linewidths=0.8, label=label, facecolors=face, edgecolors=edge
            )
        axes.set(xlim=(-1, _ROW), ylim=(rows - 0.4, -0.6), xlabel="packet in the row")
        axes.set_yticks(range(0, rows, max(2, rows // 5)))  # a row is lower than a line of text
        axes.yaxis.set_major_formatter(lambda row, _: f"{_ROW * row:.0f}")
        axes.set_ylabel("first packet")
        figure.legend(
            loc="outside upper center", ncols=4, frameon=False, handletextpad=0, columnspacing=0.8, fontsize=9
        )
        return svg(figure, "Who heard each packet of the burst")


def growth(outcome: Outcome) -> str:
    """Draw the secret bits over packets sent: by the bound given to Alice, and as this burst proves them."""
    sent = len(outcome.fates)
    xs = [*range(0, sent, max(1, sent // _POINTS)), sent]
    received = [0, *accumulate(fate in (ReceptionOutcome.BOTH, ReceptionOutcome.BOB_ONLY) for fate in outcome.fates)]
    missed = [0, *accumulate(fate is ReceptionOutcome.BOB_ONLY for fate in outcome.fates)]
    planned = [secret_bits(received[x], outcome.eve_loss_bound) for x in xs]
    proved = [secret_bits(received[x], lower_bound(missed[x], received[x], CONFIDENCE)) for x in xs]
    with rc_context(STYLE):
        figure, axes = _axes(3.1)
        axes.plot(xs, planned, "--", color=GREY, label="by the bound given to Alice before")
        axes.plot(xs, proved, color=BLUE, linewidth=2, label="proved by this burst itself (95 %)")
        _target(axes, outcome.target_bits, "target")
        axes.set(xlabel="packets sent", ylabel="secret bits", xlim=(0, max(1, sent)), ylim=(0, None))
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)
        return svg(figure, "Secret bits over packets sent")


def longer_burst(joint: JointLoss, target_bits: float) -> str:
    """Draw P(break) = (1 - e|B)^|S| over |S|, with the measured e|B and its interval; the target and this run are
    marked."""
    shares = (joint.e_given_bob, *clopper_pearson(joint.bob_only, joint.received))
    most = 2 * max(joint.received, 1)
    xs = [most * step / _POINTS for step in range(_POINTS + 1)]
    measured, low, high = ([-min(bits_per_packet(min(e, 0.999)) * x, 256) for x in xs] for e in shares)
    with rc_context(STYLE):
        figure, axes = _axes(3.1)
        axes.fill_between(xs, low, high, color=SKY, alpha=0.35, linewidth=0, label="95 % interval of e|B")
        axes.plot(xs, measured, color=BLUE, linewidth=2, label=f"measured e|B = {100 * shares[0]:.3g} %")
        axes.plot(joint.received, measured[_POINTS // 2], "D", color=ORANGE, markeredgecolor="black", label="this run")
        _target(axes, -target_bits, "target")
        axes.set(xlabel="|S|, packets in the key", ylabel="P(Eve has them all)", xlim=(0, most))
        axes.yaxis.set_major_formatter(lambda value, _: f"$2^{{{value:.0f}}}$")
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)
        return svg(figure, "Probability that Eve holds every packet of the key, over the length of the key")


def healing(measured: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw the rounds until a stolen K_i is worthless over e|B: by profile the measured means, and 1/e|B."""
    losses = sorted({loss for points in measured.values() for loss, _ in points})
    with rc_context(STYLE):
        figure, axes = _axes(3.1)
        axes.loglog(losses, [1 / loss for loss in losses], "--", color=GREY, label="1/e|B")
        for (name, points), marker, colour in zip(measured.items(), "oD", (BLUE, ORANGE), strict=False):
            xs, ys = zip(*points, strict=True)
            axes.loglog(xs, ys, marker, color=colour, fillstyle="none", label=f"{name}, mean")
        axes.set(xlabel="e|B, share of frames that the thief misses", ylabel="rounds until she is out")
        axes.set_xticks(losses, [f"{100 * loss:g} %" for loss in losses])
        axes.set_yticks([2, 5, 10, 20], ["2", "5", "10", "20"])
        axes.minorticks_off()
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9)
        return svg(figure, "Rounds until a stolen key is worthless, over the thief's loss")


def session(outcome: Outcome) -> str:
    """Draw the attempts of each round, and over them the life of the key that Eve has."""
    rounds = len(outcome.attempts)
    with rc_context(STYLE):
        figure, axes = _axes(2.3)
        axes.stairs(outcome.attempts, [number - 0.5 for number in range(rounds + 1)], fill=True, color=SKY)
        top = max(outcome.attempts, default=1)
        axes.set(xlabel="round", ylabel="attempts", xlim=(-1, rounds), ylim=(0, top * 1.75))
        axes.set_yticks(range(0, top + 1, max(1, top // 4)))
        if outcome.stolen_at is not None:
            _thief(axes, outcome, rounds, 1.2 * top)
        return svg(figure, "Attempts of each round, and the life of the key that Eve has")


def _thief(axes: Axes, outcome: Outcome, rounds: int, height: float) -> None:
    stolen = outcome.stolen_at or 0
    out = stolen + (outcome.rounds_until_thief_is_out or rounds - stolen)
    missed = [at for at in range(stolen, min(out, rounds)) if at not in outcome.read]
    axes.hlines(height, stolen - 0.5, out - 0.5, color=PURPLE, linewidth=7)
    axes.plot(outcome.read, [height] * len(outcome.read), "|", color="white", markersize=6)
    axes.plot(missed, [height] * len(missed), "X", color="white", markeredgecolor="black", markersize=8)
    whose = "$K_0$ is Eve's, too" if outcome.eve_has_key else f"$K_{{{stolen}}}$ stolen"
    axes.annotate(whose, (stolen - 0.5, height), (0, 6), textcoords="offset points", va="bottom")
    if outcome.rounds_until_thief_is_out is not None:
        axes.annotate("she is out", (out - 0.5, height), (4, 0), textcoords="offset points", va="center")


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _target(axes: Axes, value: float, name: str) -> None:
    axes.axhline(value, color=ORANGE, linestyle=":", linewidth=2, label=f"{name}: {abs(value):g} bits")
