"""The D-OTP manager: what it grants, what it counts, and of what it warns."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.protocols.dotp.keys import Role
from bt_selfsecure.protocols.dotp.manager import (
    MOST_OPEN,
    Alarm,
    Alarmed,
    GrantAnswer,
    Manager,
    ManagerConfig,
    ManagerRecordError,
)

CONFIG = ManagerConfig(
    {"kitchen": {Role.CLIENT: "sensor", Role.SERVER: "gateway"}}, most_grants=5, window_s=60.0, done_s=100.0
)
OWN = ("sensor", "kitchen", Role.CLIENT)


def alarms(manager: Manager) -> list[Alarm]:
    return [event.alarm for event in iter(manager.next_event, None)]


def test_a_transmission_is_granted_counted_and_done_at_each_end() -> None:
    manager = Manager(CONFIG)
    for device, end in (("sensor", Role.CLIENT), ("gateway", Role.SERVER)):
        for n in range(3):
            assert manager.grant(device, "kitchen", end, n, 0.0) is GrantAnswer.GRANTED
            assert manager.done(device, "kitchen", end, n, 1.0) is GrantAnswer.GRANTED
    assert [(end.granted, end.done, end.last, end.open) for end in manager.ends.values()] == [(3, 3, 2, {})] * 2
    assert alarms(manager) == []


@pytest.mark.parametrize(
    "asked",
    [
        ("gateway", "kitchen", Role.CLIENT, 0),
        ("sensor", "kitchen", Role.SERVER, 0),
        ("sensor", "cellar", Role.CLIENT, 0),
        ("", "kitchen", Role.CLIENT, 0),
        (*OWN, -1),
        (*OWN, 1 << 40),
    ],
)
def test_who_is_not_that_end_of_a_pair_is_told_so_and_changes_nothing(asked: tuple[str, str, Role, int]) -> None:
    manager = Manager(CONFIG)
    before = manager.record
    assert manager.grant(*asked, 0.0) is manager.done(*asked, 0.0) is GrantAnswer.UNKNOWN
    assert manager.record == before


def test_a_number_that_does_not_rise_is_refused_with_an_alarm() -> None:
    manager = Manager(CONFIG)
    assert manager.grant(*OWN, 7, 0.0) is GrantAnswer.GRANTED
    for n in (7, 6, 0):
        assert manager.grant(*OWN, n, 1.0) is GrantAnswer.REFUSED_NUMBER
    assert alarms(manager) == [Alarm.NOT_RISING] * 3
    assert manager.grant(*OWN, 9, 1.0) is GrantAnswer.GRANTED, "numbers may be skipped"


def test_more_than_the_rate_is_refused_with_an_alarm_until_the_window_is_over() -> None:
    manager = Manager(CONFIG)
    assert [manager.grant(*OWN, n, 0.0) for n in range(6)] == [GrantAnswer.GRANTED] * 5 + [GrantAnswer.REFUSED_RATE]
    assert alarms(manager) == [Alarm.RATE]
    assert manager.grant(*OWN, 5, 60.0) is GrantAnswer.GRANTED


def test_a_grant_that_is_not_done_in_time_raises_the_alarm_once() -> None:
    manager = Manager(CONFIG)
    manager.grant(*OWN, 0, 10.0)
    assert manager.get_timer() == 110.0
    manager.handle_timer(109.0)
    assert alarms(manager) == []
    manager.handle_timer(110.0)
    assert manager.next_event() == Alarmed(Alarm.UNFINISHED, "kitchen", Role.CLIENT, 0, 110.0)
    assert manager.get_timer() is None
    assert manager.done(*OWN, 0, 111.0) is GrantAnswer.UNKNOWN


def test_open_grants_are_bounded() -> None:
    manager = Manager(ManagerConfig(CONFIG.pairs, most_grants=1000))
    for n in range(MOST_OPEN + 3):
        manager.grant(*OWN, n, 0.0)
    assert alarms(manager) == [Alarm.UNFINISHED] * 3


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["grant", "done", "wait", "restart"]), st.sampled_from(list(Role)), st.integers(-1, 12)
        ),
        max_size=60,
    )
)
def test_no_number_is_granted_twice_whatever_is_asked_and_restarted(steps: list[tuple[str, Role, int]]) -> None:
    manager, now, granted = Manager(CONFIG), 0.0, []
    devices = CONFIG.pairs["kitchen"]
    for what, end, number in steps:
        now += 7.0
        if what == "wait":
            now += 50.0
            manager.handle_timer(now)
        elif what == "restart":
            again = Manager(CONFIG, manager.record)
            assert again.state() == manager.state()
            manager = again
        else:
            ask = manager.grant if what == "grant" else manager.done
            answer = ask(devices[end], "kitchen", end, number, now)
            if what == "grant" and answer is GrantAnswer.GRANTED:
                granted.append((end, number))
    assert len(granted) == len(set(granted))
    assert sum(kept.granted for kept in manager.ends.values()) == len(granted)
    for kept in manager.ends.values():
        assert kept.granted == kept.done + len(kept.open) + kept.alarms.get("UNFINISHED", 0)


@pytest.mark.parametrize("spoil", ["", "{}", "[1]", "cut", "deep", "word"])
def test_a_damaged_record_is_refused_in_words(spoil: str) -> None:
    manager = Manager(CONFIG)
    manager.grant(*OWN, 1, 0.0)
    whole = manager.record
    text = {"cut": whole[:-9], "deep": "[" * 100_000, "word": whole.replace('"client"', '"clerk"')}.get(spoil, spoil)
    with pytest.raises(ManagerRecordError, match="begins to count anew"):
        Manager(CONFIG, text)


def test_what_is_shown_is_json() -> None:
    manager = Manager(CONFIG)
    manager.grant(*OWN, 1, 0.0)
    manager.grant(*OWN, 1, 0.0)
    shown = json.loads(json.dumps(manager.state()))
    assert shown["ends"][0]["alarms"] == {"NOT_RISING": 1}
    assert shown["alarms"][0] == {"alarm": "NOT_RISING", "pair": "kitchen", "end": "client", "number": 1, "time": 0.0}
