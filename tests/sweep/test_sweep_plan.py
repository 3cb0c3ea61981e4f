"""The plan: what it means, and what is said of one that can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from amounts import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.plan import Place, Plan, RolesTable, Run, SweepTable, example, load, parse, rehearsal

FILE = Path("car-park.toml")
ROLES = '[roles]\nalice = "a"\nbob = "b"\neves = ["c", "d"]\n'


def said_of(text: str) -> str:
    with pytest.raises(UsageError) as refused:
        parse(text, FILE)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_default_plan_is_that_of_the_paper_with_one_very_close_place() -> None:
    plan = parse(ROLES, FILE)
    assert plan.sweep.distances_m == (0.15, 0.5, 1.5, 3.0, 4.5, 6.0)
    assert plan.sweep.packets == (200, 400, 800)
    assert (plan.sweep.size_bytes, plan.sweep.spacing_ms, plan.sweep.repeats) == (64, 10.0, 10)
    assert len([run for place in plan.places() for run in plan.runs_at(place)]) == 6 * 3 * 10 * 2


def test_the_example_is_the_default_plan() -> None:
    assert parse(example(), FILE) == Plan(RolesTable("pi-alice", "pi-bob", ("pi-eve",)), SweepTable())


@pytest.mark.parametrize("text", [example(), rehearsal()], ids=["example", "rehearsal"])
def test_what_stands_behind_a_hash_in_a_printed_plan_is_the_default(text: str) -> None:
    everything = "\n".join(
        line.removeprefix("#") if line.startswith("#") and " = " in line else "" if line.startswith("#") else line
        for line in text.splitlines()
    )
    assert parse(everything.replace("eve_distances_m = []", ""), FILE) == parse(text, FILE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "car-park.toml:1: [roles] needs alice"),
        ('[roles]\nalice = "a"\n', "car-park.toml:1: [roles] needs bob"),
        ('[roles]\nalice = "a"\nbob = "a"\n', "car-park.toml:1: [roles] gives one node two roles"),
        (
            ROLES + "[sweep]\npakets = [200]\n",
            "car-park.toml:6: [sweep] pakets is an unknown key: do you mean packets?",
        ),
        (ROLES + "[swep]\n", "car-park.toml:5: [swep] is an unknown table: do you mean sweep?"),
        (ROLES + "[sweep]\npackets = 200\n", "car-park.toml:6: [sweep] packets is 200 and must be a list"),
        (ROLES + "[sweep]\npackets = []\n", "car-park.toml:6: [sweep] packets is empty and must have one element"),
        (
            ROLES + "[sweep]\npackets = [\n200,\n5]\n",
            "car-park.toml:6: [sweep] packets, number 2 is 5 and must be 10 to 32,000",
        ),
        (ROLES + "[sweep]\ndistances_m = [1, 1.0]\n", "number 2 is 1.0, which stands there already"),
        (ROLES + '[sweep]\nbearers = ["rfcomm"]\n', 'is "rfcomm" and must be "le_advert", "l2cap", or as in'),
        (ROLES + '[sweep]\nbearers = ["air:nonsense:bob=1"]\n', "and must be"),
        (ROLES + '[sweep]\nbearers = ["air:bernoulli:bob=0.1"]\n', "how 'eve' hears"),
        (ROLES + '[sweep]\nbearers = ["l2cap", "air:bernoulli:alice=0.1"]\n', "mixes the virtual air with real radios"),
        (ROLES + "[sweep]\nnarrow_enough = 0.1\nrepeats = 2\n", "[sweep] min_repeats is more than repeats, which is 2"),
        (ROLES + "[sweep]\nrepeats = 10000\n", "asks for 360,000 runs"),
        (ROLES + "eve_distances_m = [1]\n", "has 1 numbers: give one for each of eves"),
        ("roles = 3\n", "[roles] must be a table"),
        (ROLES + "[sweep]\nspacing_ms = nan\n", "must be 1 to 10,000 ms"),
        ("[roles\n", "car-park.toml:1: not TOML"),
    ],
)
def test_a_plan_that_can_not_be_used_is_refused_with_line_and_key(text: str, said: str) -> None:
    assert said in said_of(text)


def test_a_file_that_is_not_there_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bt-selfsecure sweep plan"):
        load(tmp_path / "none.toml")


def test_on_advertisements_packets_are_as_short_and_as_slow_as_they_must_be() -> None:
    plan = parse(ROLES, FILE)
    assert (plan.size_bytes("le_advert"), plan.spacing_ms("le_advert")) == (24, 30.0)
    assert (plan.size_bytes("l2cap#4101"), plan.spacing_ms("l2cap#4101")) == (64, 10.0)


def test_repeats_alternate_between_the_kinds_of_run() -> None:
    plan = parse(ROLES + "[sweep]\npackets = [10, 20]\nrepeats = 2\n", FILE)
    place = Place(0, 0.15)
    assert list(plan.runs_at(place))[:5] == [
        Run(place, "le_advert", 10, 0),
        Run(place, "le_advert", 20, 0),
        Run(place, "l2cap", 10, 0),
        Run(place, "l2cap", 20, 0),
        Run(place, "le_advert", 10, 1),
    ]


def test_on_the_virtual_air_bobs_distance_is_that_of_the_place() -> None:
    plan = parse(ROLES + '[sweep]\nbearers = ["air:distance:eve=4,eve2=5"]\n', FILE)
    run = next(plan.runs_at(Place(0, 3.0)))
    assert plan.spec(run) == "air:distance:bob=3,eve=4,eve2=5"
    assert plan.is_virtual


def plan_or_error(text: str) -> tuple[Plan | None, str]:
    try:
        return parse(text, FILE), ""
    except UsageError as error:
        return None, str(error)


VALUES = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=5), st.lists(st.one_of(st.integers(), st.floats()))
)


@settings(max_examples=part_of(60))
@given(st.dictionaries(st.sampled_from(["distances_m", "packets", "repeats", "bearers", "narrow_enough", "x"]), VALUES))
def test_any_values_are_a_plan_or_a_usage_error_in_one_line(values: dict[str, object]) -> None:
    import json

    def toml(value: object) -> str:
        return (
            repr(value)
            if isinstance(value, float)
            else json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")
        )

    text = ROLES + "[sweep]\n" + "".join(f"{name} = {toml(value)}\n" for name, value in values.items())
    plan, error = plan_or_error(text)
    assert plan.places() if plan else "\n" not in error


@settings(max_examples=part_of(100))
@given(st.text())
def test_any_text_is_a_plan_or_a_usage_error_in_one_line(text: str) -> None:
    plan, error = plan_or_error(text)
    assert plan or error.startswith("car-park.toml")
