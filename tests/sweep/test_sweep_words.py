"""Figures as people read them."""

from __future__ import annotations

import pytest

from bt_selfsecure.sweep import words


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"), (1.0, "100 %"), (0.1364, "13.6 %"), (0.17, "17.0 %"), (0.0026, "0.260 %"), (0.00002, "0.00200 %"),
        (1e-6, "<0.001 %"), (0.9999, ">99.9 %"), (0.5, "50.0 %"), (None, "-"),
    ],
)  # fmt: skip
def test_a_share_has_three_digits_and_is_never_rounded_to_all_or_nothing(share: float | None, text: str) -> None:
    assert words.percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"), [(127.99, "127"), (128.0, "128"), (0.0799, "0.07"), (0.0, "0"), (None, "-")]
)
def test_bits_are_rounded_down(value: float | None, text: str) -> None:
    assert words.bits(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1730, "1,730"), (999_999, "999,999"), (1_729_717, "1.73 M"), (17_000_001, "18 M"), (None, "-")],
)
def test_packets_are_rounded_up(value: int | None, text: str) -> None:
    assert words.count(value) == text


@pytest.mark.parametrize(
    ("metres", "text"),
    [((4.5,), "4.5"), ((2.0, 2.0), "2"), ((0.469, 22.96), "0.469-23"), ((1234.5,), "1234"), ((None, None), "-")],
)
def test_a_place_is_one_distance_or_from_where_to_where(metres: tuple[float | None, ...], text: str) -> None:
    assert words.metres(*metres) == text


def test_an_interval_has_no_exponent() -> None:
    assert words.interval(0.0, 3e-7) == "0-0.000030 %"
    assert words.interval(0.158, 1.0) == "15.8-100 %"


@pytest.mark.parametrize(
    "names",
    [
        ("bob", "eve"),
        ("kitchen-window-left", "kitchen-window-right"),
        ("pi-at-the-window-1", "pi-at-the-window-2", "pi-at-the-window-12"),
        ("aaaaaaaaaXaaaaaaaaa", "aaaaaaaaaYaaaaaaaaa"),
        tuple(f"sensor-number-{number}" for number in range(120)),
    ],
)
def test_names_are_cut_so_that_they_stay_told_apart(names: tuple[str, ...]) -> None:
    short = words.names(names, 8)
    assert len(set(short.values())) == len(names)
    assert all(len(text) <= 8 for text in short.values())
    assert all(short[name] == name for name in names if len(name) <= 8)
