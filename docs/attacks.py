"""The figures of attacks.md, from runs of every attack: run docs/generate.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tables import table

from bt_selfsecure.bench.attacks import Trial, carry_out
from bt_selfsecure.bench.haoxiao.attacks import ATTACKS, HEALING_LOSSES, healing
from bt_selfsecure.bench.haoxiao.ends import ALL_ENDS, Ends
from bt_selfsecure.protocols.haoxiao.frames import Profile

THEFTS = 200


def cell(trials: list[Trial]) -> str:
    """Return what came of the runs: successes, keys at both ends, noticed."""
    figures = (sum(getattr(trial, name) for trial in trials) for name in ("success", "established", "noticed"))
    success, established, noticed = figures
    return f"**{success}** of {len(trials)}; key of both ends {established}, noticed {noticed}"


def named(ends: Ends) -> str:
    profile, *more = ends.label.split(", ")
    return ", ".join([f"`{profile}`", *more])


def attacks() -> str:
    rows = [("attack", "needs", "succeeds if", *(f"against {named(ends)}" for ends in ALL_ENDS), "what helps")]
    for attack in ATTACKS:
        cells = [cell(carry_out(attack, ends)) for ends in ALL_ENDS]
        words = (f"`{attack.name}`: {attack.what}", attack.needs, attack.aim, *cells, attack.remedy)
        rows.append(tuple(word.replace("|", r"\|") for word in words))
    return table(*rows)


def healing_rounds() -> str:
    paper, hardened = (dict(healing(profile, THEFTS)) for profile in Profile)
    rows = [(r"e\|B", r"1/e\|B", "`paper`, mean rounds", "`hardened`, mean rounds")]
    rows += [
        (f"{100 * loss:g} %", f"{1 / loss:g}", f"{paper[loss]:.1f}", f"{hardened[loss]:.1f}") for loss in HEALING_LOSSES
    ]
    return f"{table(*rows)}\n\nMeans of {THEFTS} thefts each."


def healing_figure() -> str:
    from bt_selfsecure.demo.figures import healing as figure

    return f"{figure({profile.label: healing(profile, THEFTS) for profile in Profile})}\n"


PARTS: Final[dict[str, Callable[[], str]]] = {"table": attacks, "healing": healing_rounds}
FIGURES: Final[dict[str, Callable[[], str]]] = {"healing.svg": healing_figure}
