"""`eve report --html`: Eve's verdict for people. One file without outside resources."""

from __future__ import annotations

from typing import Final

from bt_selfsecure import __version__
from bt_selfsecure.demo import figures
from bt_selfsecure.demo.outcome import ReceptionOutcome
from bt_selfsecure.demo.summary import percent
from bt_selfsecure.eve.haoxiao.report import CaptureReport, EstablishmentVerdict, link_type_names
from bt_selfsecure.look.pages import page
from bt_selfsecure.stats.losses import clopper_pearson

FIGURES: Final = 16
"""Establishments that have figures: a capture may hold thousands, and nobody looks at those."""


def html(report: CaptureReport, target_bits: float, messages: int | None = None) -> str:
    """Return the page, with so many messages of a direction, or all. Equal reports give equal pages."""
    return page(
        "demo/verdict.html",
        version=__version__,
        report=report,
        target_bits=target_bits,
        messages=messages,
        link_types=link_type_names(report),
        most_drawn=FIGURES,
        figures=figures,
        fates=_fates,
        percent=percent,
        clopper_pearson=clopper_pearson,
    )


def _fates(verdict: EstablishmentVerdict) -> list[ReceptionOutcome]:
    return [ReceptionOutcome.of(bob=bool(bob), eve=eve) for bob, eve in verdict.fates]
