"""Figures and pages of every room: tick labels can be read, and what makes a page says what it lacks."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bt_selfsecure.look import WIDTH, _touch, keep_labels_apart


def names(axes: Axes) -> None:
    axes.set_xticks(range(24), [f"{2 * n}-{2 * n + 2} m" for n in range(24)])


def long_numbers(axes: Axes) -> None:
    axes.plot([0.12345671, 0.12345679], [1, 1.000001])
    axes.xaxis.set_major_formatter("{x:.8f}")


def part_of_a_decade(axes: Axes) -> None:
    axes.figure.set_size_inches(2.0, 2.0)
    axes.loglog([1000, 5000], [2.0, 7.9])


@pytest.mark.parametrize("draw", [names, long_numbers, part_of_a_decade])
def test_tick_labels_never_touch_be_they_names_or_numbers(draw: Callable[[Axes], None]) -> None:
    figure = Figure(figsize=(WIDTH, 2.0), layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    figure.draw_without_rendering()
    assert _touch(axes.xaxis) or _touch(axes.yaxis)
    keep_labels_apart(figure)
    assert not _touch(axes.xaxis)
    assert not _touch(axes.yaxis)
    assert any(label.get_text() for label in axes.get_xticklabels())


def test_labels_at_the_other_side_become_fewer_only_where_they_touch() -> None:
    figure = Figure(figsize=(WIDTH, 2.0), layout="constrained")
    roomy, crowded = figure.subplots(1, 2)
    for axes in (roomy, crowded):
        axes.yaxis.tick_right()
    crowded.yaxis.set_major_locator(MaxNLocator(60))
    figure.draw_without_rendering()
    before = len(roomy.get_yticks())
    assert _touch(crowded.yaxis)
    keep_labels_apart(figure)
    assert not _touch(crowded.yaxis)
    assert len(roomy.get_yticks()) == before


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("demo --out out", "demo"),
        ("eve report {checkout}/captures/passive-hardened.pcapng --html out", "plots"),
        ("sweep report {checkout}/bt_selfsecure/air/data/ble_office_reception.json --out out", "sweep"),
        ("sweep run plan.toml --web 127.0.0.1:0 --record out", "node"),
    ],
)
def test_without_jinja2_whatever_makes_a_page_names_the_extra_before_the_work(
    tmp_path: Path, command: str, extra: str
) -> None:
    (tmp_path / "jinja2.py").write_text("raise ModuleNotFoundError('no', name='jinja2')\n")
    (tmp_path / "plan.toml").write_text('[roles]\nalice = "a"\nbob = "b"\neves = ["c"]\n[sweep]\n'
                                        'bearers = ["air:bernoulli:bob=0.1,eve=0.2"]\n')  # fmt: skip
    words = shlex.split(command.format(checkout=Path(__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, "-m", "bt_selfsecure.cli.main", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs jinja2" in done.stderr
    assert f"pip install 'bt-selfsecure[{extra}]'" in done.stderr
    assert not (tmp_path / "out").exists()
