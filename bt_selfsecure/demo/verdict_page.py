"""`eve report --html`: Eve's verdict for people. One file without outside resources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bt_selfsecure import __version__
from bt_selfsecure.demo.outcome import ReceptionOutcome
from bt_selfsecure.demo.summary import percent
from bt_selfsecure.eve.haoxiao.report import CaptureReport, EstablishmentVerdict, link_type_names
from bt_selfsecure.look import pages
from bt_selfsecure.stats.losses import JointLoss, clopper_pearson

FIGURES: Final = 16
"""Establishments that have figures: a capture may hold thousands, and nobody looks at those."""


def pieces(report: CaptureReport, target_bits: float, messages: int | None = None) -> Iterator[str]:
    """Return the page piece by piece, with so many messages of a direction, or all. Equal reports give equal pages."""
    return pages.pieces(
        "demo/verdict.html",
        version=__version__,
        report=report,
        target_bits=target_bits,
        messages=messages,
        link_types=link_type_names(report),
        most_drawn=FIGURES,
        packet_map=_packet_map,
        longer_burst=_longer_burst,
        percent=percent,
        clopper_pearson=clopper_pearson,
    )


# matplotlib takes 50 MiB, and nothing is drawn of establishments that somebody has made up.


def _packet_map(verdict: EstablishmentVerdict) -> str:
    from bt_selfsecure.demo import figures

    return figures.packet_map([ReceptionOutcome.of(bob=bool(bob), eve=eve) for bob, eve in verdict.fates])


def _longer_burst(joint: JointLoss, target_bits: float) -> str:
    from bt_selfsecure.demo import figures

    return figures.longer_burst(joint, target_bits)
