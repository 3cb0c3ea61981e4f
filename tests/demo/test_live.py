"""The moving picture, on whatever ground."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from bt_selfsecure.air.virtual_time import run_virtual
from bt_selfsecure.demo.live import LiveStage
from bt_selfsecure.demo.setting import StoryRequest, perform, stage_set

ENOUGH = {"text": 4.5, "marks": 3.0}
"""Of contrast, by WCAG 2.2."""


def luminance(colour: tuple[int, ...]) -> float:
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255)], ids=["black", "white"])
def test_every_colour_of_the_live_view_stands_out_from_a_dark_and_from_a_light_ground(ground: tuple[int, ...]) -> None:
    out = StringIO()
    console = Console(file=out, force_terminal=True, color_system="truecolor", width=80, height=30)
    production = stage_set(StoryRequest(seed=7))
    with LiveStage(production, console, paced=False) as stage:
        run_virtual(perform(production, stage))
    drawn = re.findall(r"\x1b\[([\d;]+)m([^\x1b]*)", out.getvalue())
    colours = {}
    for codes, text in drawn:
        assert not re.match(r"2(;|$)", codes), "dim: what that looks like is the terminal's affair"
        if found := re.search(r"38;2;(\d+);(\d+);(\d+)", codes):
            kind = "text" if re.search("[A-Za-z]{2}", text) else "marks"
            colours[tuple(map(int, found.groups())), kind] = text
    assert len(colours) >= 5
    for (colour, kind), text in colours.items():
        low, high = sorted((luminance(colour), luminance(ground)))
        assert (high + 0.05) / (low + 0.05) >= ENOUGH[kind], (colour, text)
