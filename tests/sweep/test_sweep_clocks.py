"""A sweep is steered from a Pi, whose clock is set in its middle: times that can't be are not plotted, and named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sweep_data import BEGAN, analysed, info, recorded, simulated

from bt_selfsecure.air.models import Bernoulli
from bt_selfsecure.sweep.analysis import analyse
from bt_selfsecure.sweep.figures import loss_by_time
from bt_selfsecure.sweep.report import html
from bt_selfsecure.sweep.store import Reception, RunInfo, Store


def at(*times: datetime | None, senders: tuple[str, ...] = ("alice",)) -> list[tuple[RunInfo, list[Reception]]]:
    """A run each, in this order, by turns of the senders."""
    return [
        (
            replace(info(50, started=began, repeat=number), sender=senders[number % len(senders)]),
            simulated(Bernoulli({"bob": 0.1, "eve": 0.3}), 50, number),
        )
        for number, began in enumerate(times)
    ]


SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ASTRAY = {
    "hours back": ([BEGAN, BEGAN - 3 * 3600 * SECOND, BEGAN], "run 2 began 180 min before run 1"),
    "from 1970 to now": ([EPOCH, EPOCH + 10 * SECOND, BEGAN], "run 3 began 56 years after run 2"),
    "20 years on": ([BEGAN, BEGAN + 7305 * DAY, BEGAN + 7306 * DAY], "run 2 began 20 years after run 1"),
    "2106 and back": ([BEGAN, datetime(2106, 3, 1, tzinfo=UTC), BEGAN], "run 2 began 80 years after run 1"),
    "one without a time between": ([BEGAN, None, BEGAN - 3 * DAY], "run 3 began 3 days before run 1"),
}


@pytest.mark.parametrize(("times", "said"), ASTRAY.values(), ids=ASTRAY)
def test_runs_whose_times_go_against_their_order_are_plotted_by_run_and_that_is_said(
    tmp_path: Path, times: list[datetime | None], said: str
) -> None:
    with Store(recorded(tmp_path / "s.db", *at(*times))) as store:
        analysis = analyse(store)
        page = html(store, analysis)
    assert len([text for text in analysis.warnings if f"by the clock {said}: the clock was set" in text]) == 1
    figure = loss_by_time(analysis)
    assert figure is not None
    (axes,) = figure.axes
    assert axes.get_xlabel().startswith("run (by their times")
    assert [list(line.get_xdata()) for line in axes.lines] == [[1, 2, 3]] * 2
    assert " UTC.</p>" not in page.split("<h1>")[1].split("lead")[0]


@pytest.mark.parametrize(
    ("times", "senders", "label", "places"),
    [
        ([BEGAN, BEGAN + 60 * SECOND, BEGAN + 120 * SECOND], ("alice",), "minutes from the first run", [0, 1, 2]),
        ([BEGAN, BEGAN, BEGAN + 300 * DAY], ("alice",), "minutes from the first run", [0, 0, 300 * 1440]),
        ([BEGAN, BEGAN - DAY, BEGAN + DAY, BEGAN], ("alice", "carol"), "minutes from the first run", None),
        ([BEGAN, None, BEGAN + DAY], ("alice",), "run", [1, 2, 3]),
        ([None, None, None], ("alice",), "run", [1, 2, 3]),
    ],
)
def test_times_that_can_be_right_are_plotted_as_they_are_and_nobody_is_warned(
    tmp_path: Path, times: list[datetime | None], senders: tuple[str, ...], label: str, places: list[float] | None
) -> None:
    """As of a second day, of logs of two senders one after the other, or of runs without a time."""
    analysis = analysed(tmp_path / "s.db", *at(*times, senders=senders))
    assert not [text for text in analysis.warnings if "by the clock" in text]
    figure = loss_by_time(analysis)
    assert figure is not None
    (axes,) = figure.axes
    assert axes.get_xlabel() == label
    if places:
        assert list(axes.lines[0].get_xdata()) == pytest.approx(places)
