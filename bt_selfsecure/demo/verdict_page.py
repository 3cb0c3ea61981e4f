"""`eve report --html`: Eve's verdict for people. One file without outside resources."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

from bt_selfsecure import __version__
from bt_selfsecure.demo import figures
from bt_selfsecure.demo.report import losses
from bt_selfsecure.demo.scenario import ReceptionOutcome
from bt_selfsecure.eve.haoxiao.report import CaptureReport, EstablishmentVerdict, Read, link_type_names
from bt_selfsecure.look import figure, page
from bt_selfsecure.wording import counted

FIGURES: Final = 16
"""Establishments that have figures: a capture may hold thousands, and nobody looks at those."""
_FATES: Final = {
    (True, True): ReceptionOutcome.BOTH,
    (True, False): ReceptionOutcome.BOB_ONLY,
    (False, True): ReceptionOutcome.EVE_ONLY,
    (False, False): ReceptionOutcome.NEITHER,
}


def html(report: CaptureReport, target_bits: float, messages: int | None = None) -> str:
    """The page, with so many messages of a direction, or all. Equal reports give equal pages."""
    sections = [_head(report)]
    for number, verdict in enumerate(report.verdicts, 1):
        sections += _establishment(number, verdict, target_bits, drawn=number <= FIGURES)
        sections.append(_read("What she read", verdict.read, messages))
    sections.append(_read("What she read with what was stolen", report.stolen, messages))
    sections.append(_limits(report))
    return page("bt_selfsecure: what Eve has", "\n".join(sections))


def _head(report: CaptureReport) -> str:
    frames = ", ".join(f"{count} by {name}" for name, count in report.bearers.items()) or "none"
    attacks = (
        f" Burst packets that contradict an earlier one: {report.contradictions:,}; somebody forged."
        if report.contradictions
        else ""
    )
    return (
        f"<h1>What Eve has</h1>\n<p class='air'>{counted(report.captures, 'capture')}, "
        f"{counted(report.packets, 'packet')} ({report.crc_bad} with a wrong CRC), link types "
        f"{escape(', '.join(link_type_names(report)) or '-')}; frames of the protocol: {escape(frames)}.</p>\n"
        f'<p class="lead{" bad" if report.broken else ""}">{escape(report.conclusion)} '
        f"{counted(len(report.verdicts), 'establishment')} "
        f"heard, {counted(report.unopened, 'data frame')} unopened.{attacks}</p>"
    )


def _establishment(number: int, verdict: EstablishmentVerdict, target_bits: float, *, drawn: bool) -> list[str]:
    ends = f"{verdict.initiator or 'unknown'} &rarr; {verdict.responder or 'unknown'}"
    head = f"<h2>Establishment {number}: {ends}, {verdict.profile}</h2>\n"
    lead = f'<p class="lead{" bad" if verdict.has_key else ""}">{escape(verdict.sentence)}</p>\n'
    sections = [head + lead + _facts(verdict)]
    joint = verdict.joint
    if drawn and joint is not None and joint.received:
        fates = [_FATES[bool(bob), eve] for bob, eve in verdict.fates]
        caption = "Each mark is one packet of the burst. The diamonds are in the key, and Eve does not have them."
        sections += [figure(figures.packet_map(fates), caption), losses(joint)]
        if joint.bob_only > 0:
            caption = "What an Eve who hears like this one can hope for, the longer the key."
            sections.append(figure(figures.longer_burst(joint, target_bits), caption))
    return sections


def _facts(verdict: EstablishmentVerdict) -> str:
    boxes = [(str(verdict.sent), "packets sent"), (str(verdict.heard_by_eve), "heard by Eve")]
    if verdict.heard_by_bob is not None:
        bits = "-" if verdict.secret_bits is None else f"{verdict.secret_bits:.0f} bits"
        boxes += [
            (str(verdict.heard_by_bob), "in the key"),
            (str(verdict.missed_given_bob), "of those she lacks"),
            (bits, f"are left, at {100 * verdict.confidence:g} % confidence"),
        ]
    return f'<div class="facts">{"".join(f"<div><b>{a}</b><span>{b}</span></div>" for a, b in boxes)}</div>'


def _read(heading: str, read: Iterable[Read], most: int | None) -> str:
    lists = ["\n".join(map(escape, each.told(most))) for each in read if each.messages]
    return f"<h2>{heading}</h2>\n" + "".join(f"<pre>{lines}</pre>\n" for lines in lists) if lists else ""


def _limits(report: CaptureReport) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in report.limits)
    told = f"<h2>What this hearing can not tell</h2>\n<ul>{items}</ul>\n" if items else ""
    return f"{told}<p class='note'>bt_selfsecure {__version__}</p>"
