"""The weakest run decides; and which runs are counted together."""

from __future__ import annotations

import json
import math
import re
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
from sweep_data import analysed, info, pair_of, receptions, simulated

from bt_selfsecure.air.models import Bernoulli
from bt_selfsecure.cli import sweep_text as terminal
from bt_selfsecure.errors import UsageError
from bt_selfsecure.stats.losses import binomial_tail, lower_bound, secret_bits
from bt_selfsecure.sweep import report_tables as tables
from bt_selfsecure.sweep.compare import figures_of
from bt_selfsecure.sweep.figures import joint_loss_map
from bt_selfsecure.sweep.store import Reception

ALL = [True] * 1000
HALF = [seq % 2 == 0 for seq in range(1000)]


def missing(*packets: int) -> list[bool]:
    return [seq not in packets for seq in range(1000)]


# --- The weakest run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [1, 9, 40])
@pytest.mark.parametrize("distance_m", [3.0, None])
def test_a_run_of_which_eve_missed_one_packet_is_weak_however_good_the_others_are(
    tmp_path: Path, others: int, distance_m: float | None
) -> None:
    runs = [(info(1000, distance_m, repeat=r), receptions({"bob": ALL, "eve": HALF})) for r in range(others)]
    runs.insert(others // 2, (info(1000, distance_m), receptions({"bob": ALL, "eve": missing(500)})))
    pair = pair_of(analysed(tmp_path / "s.db", *runs))
    assert (pair.verdict, pair.worst_run) == ("weak", others // 2 + 1)
    assert pair.secret_bits == pytest.approx(-math.log2(0.95))  # 1 - (1 - p)^1000 = 0.05
    assert pair.least_e_given_b == 0.001
    assert pair.bound == pytest.approx(1 - 0.95 ** (1 / 1000))
    assert pair.e_given_b == pytest.approx((others * 500 + 1) / (others + 1) / 1000)  # pooled, beside it
    assert pair.pooled_bound > 0.2
    assert pair.greatest_e_given_b == 0.5
    assert [run.verdict for run in pair.each_run].count("holds") == others


def test_the_least_e_given_b_is_told_wherever_it_is_told_though_the_worst_run_has_a_greater_one(
    tmp_path: Path,
) -> None:
    """A run of few packets is worth least by its bits, and one of many has the least e|B."""
    few, many = [[True] * 100, [seq % 16 != 0 for seq in range(100)]], [ALL, [seq % 30 != 0 for seq in range(1000)]]
    heard = [dict(zip(("bob", "eve"), flags, strict=True)) for flags in (few, many, [ALL, HALF])]
    runs = [(info(len(flags["bob"]), None), receptions(flags)) for flags in heard]
    analysis = analysed(tmp_path / "s.db", *runs)
    pair = pair_of(analysis)
    assert pair.worst_run == 1
    assert (pair.least_e_given_b, pair.median_e_given_b, pair.greatest_e_given_b) == (0.034, 0.07, 0.5)
    (row,) = (row for row in analysis.as_json()["pairs"] if row["bob"] == "bob")
    assert [row[f"{which}_e_given_b"] for which in ("least", "median", "greatest")] == [0.034, 0.07, 0.5]
    assert re.search(r"bob +eve +\S+ +3\.40 +7\.00 +50\.0 +1 ", terminal.table(analysis))
    places = [(info(len(flags["bob"]), metres), receptions(flags)) for metres in range(1, 6) for flags in heard]
    overview = terminal.table(analysed(tmp_path / "places.db", *places))
    assert re.search(r"bob +eve +weak~ +\S+ +1 +3\.40 %  1 m", overview)
    in_page = tables.pairs(analysis, tables.told_apart(analysis))
    names = [name for name, _ in in_page.head]
    rows = [dict(zip(names, (text for text, _ in row), strict=True)) for row in in_page.rows]
    (shown,) = ([row[name] for name in ("least e|B", "median", "most")] for row in rows if row["Bob"] == "bob")
    assert shown == ["3.40 %", "7.00 %", "50.0 %"]
    least = [
        found.share for figure, found in figures_of(analysis).items() if figure.least_of_a_run and figure.bob == "bob"
    ]
    assert least == [0.034]
    drawn = joint_loss_map(analysis)
    assert drawn is not None
    assert {text.get_text() for text in drawn.axes[0].texts} == {"3.40", "0"}


def test_a_map_of_many_distances_has_a_column_for_several_and_shows_the_least_of_them(tmp_path: Path) -> None:
    worst = 4.5
    places = [
        (info(1000, metres), receptions({"bob": ALL, "eve": missing(3) if metres == worst else HALF}))
        for metres in (1 + number / 10 for number in range(60))
    ]
    drawn = joint_loss_map(analysed(tmp_path / "s.db", *places))
    assert drawn
    labels = [label.get_text() for label in drawn.axes[0].get_xticklabels()]
    assert labels == [f"{metres}-{metres + 1} m" for metres in range(1, 7)]
    row = [label.get_text() for label in drawn.axes[0].get_yticklabels()].index("Bob bob, Eve eve")
    least = [text.get_text() for text in drawn.axes[0].texts if text.get_position() == (labels.index("4-5 m"), row)]
    assert least == ["0.100"]


def test_a_map_of_many_pairs_has_the_weakest_first_and_says_how_many_it_does_not_show(tmp_path: Path) -> None:
    names = [f"pi-{number}" for number in range(6)]
    flags = {name: [seq % 7 != number for seq in range(1000)] for number, name in enumerate(names)}
    near = flags | {"pi-4": ALL, "pi-5": ALL}  # who hears all, has all
    drawn = joint_loss_map(
        analysed(tmp_path / "s.db", (info(1000, 1), receptions(near)), (info(1000, 3), receptions(flags)))
    )
    assert drawn
    rows = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert len(rows) == 24
    broken = {f"Bob {bob}, Eve {eve}" for bob in names for eve in ("pi-4", "pi-5") if bob != eve}
    assert set(rows[:10]) == broken
    assert drawn.axes[0].get_xlabel() == "the weakest pairs; 6 more are not shown"


@pytest.mark.parametrize("misses", [1, 3, 20, 80])
def test_packets_to_send_are_those_of_the_worst_run(tmp_path: Path, misses: int) -> None:
    worst, bob = missing(*range(0, 10 * misses, 10)), missing(*range(5, 1000, 7))
    runs = [(info(1000), receptions({"bob": bob, "eve": eve})) for eve in (HALF, worst, HALF)]
    analysis = analysed(tmp_path / "s.db", *runs)
    pair = pair_of(analysis)
    (run,) = (run for run in pair.each_run if run.run == 2)
    needed, send = pair.packets_needed["128"], pair.packets_to_send["128"]
    assert needed is not None
    assert send is not None
    assert secret_bits(needed, run.bound) >= 128 > secret_bits(needed - 1, run.bound)
    assert binomial_tail(needed, send, run.bob_heard / 1000) >= 0.99


def test_no_number_of_packets_helps_where_eve_heard_a_run_whole(tmp_path: Path) -> None:
    runs = [(info(1000), receptions({"bob": ALL, "eve": eve})) for eve in (HALF, ALL, HALF)]
    pair = pair_of(analysed(tmp_path / "s.db", *runs))
    assert (pair.secret_bits, pair.verdict, pair.runs_broken) == (0, "weak", 1)
    assert pair.worst is not None
    assert pair.worst.verdict == "broken"
    assert set(pair.packets_needed.values()) | set(pair.packets_to_send.values()) == {None}


def test_colluding_eves_are_judged_by_their_best_run_as_plain_counting_finds_it(tmp_path: Path) -> None:
    random, names = Random(7), ("a", "b", "c", "d", "e")
    heard = [{name: [random.random() > 0.3 for _ in range(120)] for name in names} for _ in range(4)]
    analysis = analysed(tmp_path / "s.db", *((info(120), receptions(run)) for run in heard))

    def left(run: dict[str, list[bool]], bob: str, eves: tuple[str, ...]) -> int:
        return sum(run[bob][seq] and not any(run[eve][seq] for eve in eves) for seq in range(120))

    assert len(analysis.colluding) == 5 * 4
    for row in analysis.colluding:
        others = [name for name in names if name != row.bob]
        sets = list(combinations(others, row.eves))
        pooled = {eves: sum(left(run, row.bob, eves) for run in heard) for eves in sets}
        assert row.missed_given_bob == min(pooled.values()) == pooled[row.worst]
        worth = {}
        for number, run in enumerate(heard, 1):
            received, least = sum(run[row.bob]), min(left(run, row.bob, eves) for eves in sets)
            worth[number] = secret_bits(received, lower_bound(least, received))
        there = row.in_run
        assert there is not None
        assert there.secret_bits == min(worth.values()) == worth[there.run]
        assert left(heard[there.run - 1], row.bob, row.worst_in_run) == there.eve_missed_given_bob
        assert row.runs_broken == max(sum(not left(run, row.bob, eves) for run in heard) for eves in sets)


# --- No key -----------------------------------------------------------------------------------------------------------


def test_where_bob_heard_nothing_there_is_no_key_rather_than_a_broken_one(tmp_path: Path) -> None:
    rows = receptions({"bob": [False, False], "eve": [True, False]})
    analysis = analysed(tmp_path / "s.db", (info(2), rows))
    pair = pair_of(analysis)
    assert (pair.verdict, pair.e_given_b, pair.secret_bits, pair.worst_run) == ("no key", None, None, None)
    assert (pair.runs_broken, pair.runs_without_key, pair.broken_share) == (0, 1, None)
    assert [(run.verdict, run.e_given_b) for run in pair.each_run] == [("no key", None)]
    told = json.loads(json.dumps(analysis.as_json(), allow_nan=False))
    assert {row["bob"]: row["e_given_b"] for row in told["pairs"]}["bob"] is None
    assert {row["bob"]: row["in_run"] for row in told["colluding"]}["bob"] is None


def test_a_run_that_gave_no_key_is_in_no_verdict_but_is_told(tmp_path: Path) -> None:
    deaf = [False] * 1000
    runs = [(info(1000), receptions({"bob": bob, "eve": HALF})) for bob in (ALL, deaf, ALL)]
    analysis = analysed(tmp_path / "s.db", *runs)
    pair = pair_of(analysis)
    assert (pair.verdict, pair.runs, pair.runs_without_key, pair.runs_broken) == ("holds", 3, 1, 0)
    assert pair.broken_high == pytest.approx(1 - 0.05 ** (1 / 2))  # of two keys, not of three runs
    assert any("Bob heard nothing, 1 of 3" in warning for warning in analysis.warnings)


# --- Many listeners ---------------------------------------------------------------------------------------------------


def test_more_listeners_than_sets_can_be_counted_of_are_judged_pair_by_pair_and_all_together(tmp_path: Path) -> None:
    random, names = Random(3), tuple(f"r{number:02}" for number in range(17))
    heard = {name: [random.random() > 0.4 for _ in range(60)] for name in names}
    heard["r00"][7] = True
    for name in names[1:]:
        heard[name][7] = False
    analysis = analysed(tmp_path / "s.db", (info(60), receptions(heard)))
    assert len(analysis.pairs) == 17 * 16
    assert {row.eves for row in analysis.colluding} == {1, 16}
    for row in analysis.colluding:
        left = [
            sum(heard[row.bob][seq] and not any(heard[eve][seq] for eve in eves) for seq in range(60))
            for eves in combinations([name for name in names if name != row.bob], row.eves)
        ]
        assert row.missed_given_bob == min(left)
        assert len(row.worst) == row.eves
    assert any("--listeners" in warning for warning in analysis.warnings)
    few = analysed(tmp_path / "few.db", (info(60), receptions(heard)), listeners=names[:3])
    alone = analysed(tmp_path / "alone.db", (info(60), receptions({name: heard[name] for name in names[:3]})))
    assert (few.pairs, few.colluding) == (alone.pairs, alone.colluding)


def test_listeners_that_no_run_has_are_refused_with_those_that_there_are(tmp_path: Path) -> None:
    rows = receptions({"bob": [True], "eve": [False]})
    with pytest.raises(UsageError, match="'mouse': the sweep has bob, eve"):
        analysed(tmp_path / "s.db", (info(1), rows), listeners=("bob", "mouse"))


def test_a_packet_counts_if_it_was_on_the_air_for_the_chosen_listeners(tmp_path: Path) -> None:
    rows = [Reception(s, n, s % 4 > 0, lost_in_queue=n == "far" and s % 4 == 0) for n in ("bob", "far") for s in (0, 1)]
    analysis = analysed(tmp_path / "s.db", (info(2), rows), listeners=("bob",))
    assert [row.sent for row in analysis.listeners] == [2]


# --- Which runs are counted together ----------------------------------------------------------------------------------

PLANNED = {"sweep": {"packets": [200, 400]}}


@pytest.mark.parametrize(
    ("lengths", "plan", "settings"),
    [
        pytest.param((1000, 1002, 1004), None, {None: 3}, id="logs that end a little earlier or later"),
        pytest.param((1000, 1002, 1000, 1002), None, {None: 4}, id="and do so twice"),
        pytest.param((500, 500, 312), None, {None: 3}, id="one that was cut"),
        pytest.param((200, 200, 400, 400), None, {200: 2, 400: 2}, id="repeats of two numbers, as an export has them"),
        pytest.param((200, 400), PLANNED, {200: 1, 400: 1}, id="two numbers by plan, once each"),
        pytest.param((400, 400), PLANNED, {400: 2}, id="one of the plan's two"),
        pytest.param((200, 398), {"sweep": {"packets": [400]}}, {None: 2}, id="one by plan"),
        pytest.param((300, 300), None, {300: 2}, id="always the same"),
    ],
)
def test_the_number_of_packets_parts_settings_only_where_it_was_meant(
    tmp_path: Path, lengths: tuple[int, ...], plan: dict | None, settings: dict[int | None, int]
) -> None:
    runs = [(info(n), receptions({"bob": [True] * n, "eve": [s % 9 > 0 for s in range(n)]})) for n in lengths]
    analysis = analysed(tmp_path / "s.db", *runs, plan=plan)
    told = {pair.setting.packets: pair.runs for pair in analysis.pairs if pair.bob == "bob"}
    assert told == settings


def test_conditions_part_settings_and_stand_with_every_row(tmp_path: Path) -> None:
    rooms = [{"room": "office"}, {"room": "hall", "noise": "microwave"}, {}]
    rows = simulated(Bernoulli({"bob": 0.1, "eve": 0.3}), 100, 1)
    runs = [(info(100, notes={"conditions": so}), rows) for so in rooms for _ in range(2)]
    analysis = analysed(tmp_path / "s.db", *runs)
    assert [pair.runs for pair in analysis.planned()] == [2] * 6
    told = analysis.as_json()
    for kind in ("pairs", "listeners", "colluding", "shares", "each_run", "loss_by_distance"):
        assert {json.dumps(row["conditions"], sort_keys=True) for row in told[kind]} == {
            json.dumps(so, sort_keys=True) for so in rooms
        }
    assert any("noise microwave, room hall" in str(pair.setting) for pair in analysis.pairs)


@pytest.mark.parametrize(("told", "metres"), [({}, None), ({"eve": 4.0}, 4.0)])
def test_an_eve_stands_where_the_plan_says_and_not_where_bob_is(
    tmp_path: Path, told: dict[str, float], metres: float | None
) -> None:
    rows = simulated(Bernoulli({"bob": 0.1, "eve": 0.3}), 100, 1)
    roles = {"alice": "alice", "bob": "bob", "eves": ["eve"]}
    runs = [(info(100, at, distances_m=told, notes={"roles": roles}), rows) for at in (1.0, 2.0)]
    analysis = analysed(tmp_path / "s.db", *runs)
    assert [row.distance_m for row in analysis.listeners if row.listener == "bob"] == [1.0, 2.0]
    assert [row.distance_m for row in analysis.listeners if row.listener == "eve"] == [metres, metres]
    assert {pair.eve_distance_m for pair in analysis.planned()} == {metres}
    assert {row.distance_m for row in analysis.each_run if row.listener == "eve"} == {metres}


def test_a_listener_that_moved_is_told_from_where_to_where(tmp_path: Path) -> None:
    rows = simulated(Bernoulli({"bob": 0.1, "eve": 0.3}), 100, 1)
    runs = [(info(100, None, distances_m={"bob": at, "eve": 2.0}), rows) for at in (3.0, 1.0)]
    bob, eve = analysed(tmp_path / "s.db", *runs).listeners
    assert (bob.distance_m, bob.nearest_m, bob.farthest_m) == (None, 1.0, 3.0)
    assert (eve.distance_m, eve.nearest_m, eve.farthest_m) == (2.0, 2.0, 2.0)
