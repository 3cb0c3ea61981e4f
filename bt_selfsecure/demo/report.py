"""report.html: one run, for people. One file without outside resources, for a screen, a phone and paper."""

from __future__ import annotations

from bt_selfsecure import __version__
from bt_selfsecure.demo import summary
from bt_selfsecure.look.pages import page
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.stats.losses import clopper_pearson

try:
    from bt_selfsecure.demo import figures

    DRAWS = True
except ImportError:  # of matplotlib, which not every Pi can have
    DRAWS = False


def html(run: summary.FinishedRun) -> str:
    """Return the page, without figures where there is no matplotlib. Equal runs give equal pages."""
    return page(
        "demo/report.html",
        version=__version__,
        run=run,
        request=run.production.request,
        survey=run.production.survey,
        outcome=run.outcome,
        joint=run.outcome.joint,
        summary=summary,
        percent=summary.percent,
        clopper_pearson=clopper_pearson,
        paper=Profile.PAPER.label,
        figures=figures if DRAWS else None,
    )
