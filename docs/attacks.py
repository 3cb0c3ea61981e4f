"""The figures of attacks.md, from runs of every attack: run docs/generate.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from tables import table

from bt_selfsecure.bench.attacks import Trial, carry_out
from bt_selfsecure.bench.haoxiao.attacks import HEALING_LOSSES, healing
from bt_selfsecure.bench.papers import PAPERS
from bt_selfsecure.protocols.haoxiao.frames import Profile

THEFTS = 200


def cell(trials: list[Trial], word: str) -> str:
    """Return what came of the runs: successes, those in which both ends had what `word` says, noticed; a dash where
    there was nothing to attack."""
    if not trials:
        return "–"
    success, established, noticed = (
        sum(getattr(trial, name) for trial in trials) for name in ("success", "established", "noticed")
    )
    return f"**{success}** of {len(trials)}; {word} {established}, noticed {noticed}"


def named(label: str) -> str:
    profile, *more = label.split(", ")
    return ", ".join([f"`{profile}`", *more])


def attacks(prefix: str, word: str) -> str:
    paper = PAPERS[prefix]
    rows = [("attack", "needs", "succeeds if", *(f"against {named(label)}" for label in paper.ends), "what helps")]
    for attack in paper.attacks:
        name = f"{prefix}/{attack.name}".lstrip("/")
        cells = [cell(carry_out(attack, ends), word) for ends in paper.ends.values()]
        words = (f"`{name}`: {attack.what}", attack.needs, attack.aim, *cells, attack.remedy)
        rows.append(tuple(each.replace("|", r"\|") for each in words))
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


PARTS: Final[dict[str, Callable[[], str]]] = {
    "table": partial(attacks, "", "key of both ends"),
    "dotp": partial(attacks, "dotp", "in step"),
    "sabour": partial(attacks, "sabour", "key of both ends"),
    "bootstrap": partial(attacks, "bootstrap", "a common key"),
    "pairing": partial(attacks, "pairing", "a key"),
    "iotcrypto": partial(attacks, "iotcrypto", "a common key"),
    "healing": healing_rounds,
}
FIGURES: Final[dict[str, Callable[[], str]]] = {"healing.svg": healing_figure}
