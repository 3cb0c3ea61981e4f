"""Figures of every room: their tick labels can be read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
