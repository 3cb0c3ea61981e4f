"""What SBI, SBR and SBS take, refuse, repeat and keep: the profile `hardened`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from bootstrap_ends import CONTROLLER, IK, NAMES, NODE_ID, NOON, OTHER, Ends, counted, written

from bt_selfsecure.protocols.bootstrap import keys, limits
from bt_selfsecure.protocols.bootstrap.config import SbrConfig
from bt_selfsecure.protocols.bootstrap.events import KeyTaken, NoAnswer, NodeJoined, NodeRefused, Refusal
from bt_selfsecure.protocols.bootstrap.messages import SIZES, FlightError, Kind, Profile, channel_of, decode, kind_of
from bt_selfsecure.protocols.bootstrap.records import (
    NodeRecord,
    Step,
    TidReservation,
    Transaction,
)
from bt_selfsecure.protocols.bootstrap.sbi import SBI_FRAMES, Sbi, SbiState
from bt_selfsecure.protocols.bootstrap.sbr import SBR_TABLE, Sbr
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Rejection

TAKES = {1: "sbr", 2: "sbs", 3: "sbr", 4: "sbi", 5: "sbr", 6: "sbs", 7: "sbr", 8: "sbi"}
"""Who takes which flight."""


def refusals(ends: Ends) -> list[Refusal]:
    return [event.reason for event in ends.told["sbs"] if isinstance(event, NodeRefused)]


def up_to(number: int, seed: str = "") -> tuple[Ends, list[bytes]]:
    """Return ends before this flight is given to whom it is for, and the flights up to it."""
    ends = Ends(seed)
    ends.sbi.start(0.0)
    tape = ends.say("sbi")
    for flight in range(1, number):
        tape += ends.give(TAKES[flight], tape[-1:])
    return ends, tape


# --- a join -----------------------------------------------------------------------------------------------------------


def test_three_joined_have_one_psk_and_the_ik_is_forgotten() -> None:
    ends = Ends()
    ends.join()
    joined = {name: [event for event in ends.told[name] if isinstance(event, NodeJoined)] for name in NAMES}
    assert [len(joined[name]) for name in NAMES] == [1, 1, 0, 1]
    assert joined["sbi"] == joined["sbr"] == joined["sbs"]
    assert ends.node_keys == {ends.network_key} != {IK}
    assert all(IK.hex() not in record.to_json() for disk in ends.disks.values() for record in disk.values())


def test_the_controller_never_has_the_ik() -> None:
    ends, tape = up_to(5)
    assert all(IK.hex() not in record.to_json() for record in ends.disks["sbr"].values())
    plain = keys.unseal(keys.down_key(CONTROLLER.sk_cs), decode(tape[2]))
    assert plain is not None
    assert IK not in plain


def test_a_node_joins_again_under_its_psk() -> None:
    ends = Ends()
    psks = []
    for _ in range(3):
        ends.join()
        psks.append(ends.network_key)
        assert ends.node_keys == {ends.network_key}
    assert len({*psks, IK}) == 4
    assert sum(isinstance(one, Transaction) for one in ends.disks["sbr"].values()) == 1


def test_another_controller_of_the_domain_takes_over() -> None:
    ends = Ends()
    ends.join()
    ends.sbi.start(0.0)
    data = ends.say("sbi")
    for name in ("sbr2", "sbs", "sbr2", "sbi", "sbr2", "sbs", "sbr2", "sbi"):
        data = ends.give(name, data)
    assert ends.sbi.record.joined == OTHER.controller_id
    assert ends.node_keys == {ends.network_key}


def test_one_flight_1_at_two_controllers_never_seals_two_texts_under_one_key_and_nonce() -> None:
    """Both count their TID from 1: without ID_c in Kw both flights 4 would be under one key and nonce."""
    ends, tape = up_to(1)
    (one,) = ends.give("sbr", ends.give("sbs", ends.give("sbr", tape)))
    (other,) = ends.give("sbr2", ends.give("sbs", ends.give("sbr2", tape)))
    assert one[:10] == other[:10]
    rn_i = decode(tape[0]).rn_i
    names = [keys.NamesOfRun(NODE_ID, who.controller_id, one[2:10]) for who in (CONTROLLER, OTHER)]
    kw, kw_of_other = (keys.wrapping_key(IK, rn_i, each) for each in names)
    assert kw != kw_of_other
    assert keys.unseal(kw, decode(other), tape[0]) is None


# --- whatever is damaged is refused -----------------------------------------------------------------------------------


def flipped(data: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(data)):
        yield bytes(octet ^ (1 << bit % 8 if at == bit // 8 else 0) for at, octet in enumerate(data))


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6, 7, 8])
def test_a_flight_with_any_bit_flipped_changes_nothing(number: int) -> None:
    ends, tape = up_to(number)
    name = TAKES[number]
    before = dict(ends.disks[name])
    for data in flipped(tape[-1]):
        assert ends.give(name, [data]) == []
    assert ends.disks[name] == before
    assert ends.give(name, tape[-1:]) or number == 8
    assert ends.disks[name] != before


def test_a_flight_1_with_any_bit_flipped_changes_nothing_at_the_server() -> None:
    """The controller can't know, so it asks, and is not answered. Its TID are used up by it, and no more."""
    ends, tape = up_to(1)
    before = dict(ends.disks["sbs"])
    for data in flipped(tape[0]):
        for asked in ends.give("sbr", [data]):
            assert ends.give("sbs", [asked]) == []
    assert ends.disks["sbs"] == before
    assert {*refusals(ends)} == {Refusal.NOT_THE_KEY, Refusal.UNKNOWN_NODE}


def test_a_flight_of_any_other_size_is_none() -> None:
    _, tape = up_to(8)
    for data in tape:
        for wrong in (data[:-1], data + b"\0", data[:1], b""):
            with pytest.raises(FlightError):
                decode(wrong)
    with pytest.raises(FlightError, match="version"):
        decode(b"\x02" + tape[0][1:])
    with pytest.raises(FlightError, match="second octet"):
        decode(b"\x01\x09" + tape[0][2:])


# --- whatever is old is refused ---------------------------------------------------------------------------------------


def test_flights_of_a_join_that_is_over_change_nothing() -> None:
    ends = Ends()
    old = ends.join()
    ends.join()
    before = {name: dict(disk) for name, disk in ends.disks.items()}
    for number, data in enumerate(old[1:], 2):
        assert ends.give(TAKES[number], [data]) == []
    for data in ends.give("sbr", old[:1]):  # flight 1 is asked about
        assert ends.give("sbs", [data]) == []
    assert {name: ends.disks[name] for name in ("sbi", "sbs")} == {name: before[name] for name in ("sbi", "sbs")}
    assert Refusal.NOT_THE_KEY in refusals(ends)
    assert Refusal.NOTHING_OPEN in refusals(ends)


def test_an_old_flight_2_of_a_node_whose_key_is_still_the_same_is_refused_by_its_number() -> None:
    ends, tape = up_to(2)
    ends.give("sbs", tape[-1:])
    ends.sbi.start(0.0, anew=True)
    ends.give("sbs", ends.give("sbr", ends.say("sbi")))
    assert ends.give("sbs", tape[1:2]) == []
    assert refusals(ends) == [Refusal.OLD_TID]


def test_a_flight_4_to_another_flight_1_is_refused() -> None:
    ends, tape = up_to(4)
    ends.sbi.start(0.0, anew=True)
    ends.say("sbi")
    assert ends.give("sbi", tape[-1:]) == []
    assert ends.sbi.rejections[Rejection.UNAUTHENTIC] == 1


# --- whatever is repeated is answered as before -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 5, 6])
def test_a_flight_that_comes_again_is_answered_by_the_same_bytes(number: int) -> None:
    ends, tape = up_to(number)
    answers = [ends.give(TAKES[number], tape[-1:]) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2] != []


def test_flight_1_again_shows_flight_4_again_and_flight_5_again_is_answered_when_all_is_done() -> None:
    ends = Ends()
    tape = ends.join()
    assert ends.give("sbr", [tape[4]]) == [tape[7]]
    assert ends.give("sbr", [tape[0]]) == [tape[3]]
    assert ends.give("sbs", [tape[5]]) == [tape[6]]


def test_an_sbi_repeats_flight_5_until_flight_8_comes_and_waits_longer_each_time() -> None:
    ends, tape = up_to(5)
    sent: list[float] = []
    now = 0.0
    while len(sent) < 12:
        timer = ends.sbi.get_timer()
        assert timer is not None
        now = timer
        ends.sbi.handle_timer(now)
        assert ends.say("sbi", now) == [tape[4]]
        sent.append(now)
    waits = [later - earlier for earlier, later in pairwise(sent)]
    assert waits == sorted(waits)
    assert waits[-1] == limits.LAST_RETRY_S
    ends.give("sbi", ends.give("sbr", ends.give("sbs", ends.give("sbr", tape[4:5]))))
    assert ends.sbi.get_timer() is None


@pytest.mark.parametrize(("number", "step"), [(2, "asked"), (6, "confirmed")])
def test_an_sbr_repeats_what_the_server_does_not_answer_and_gives_up(number: int, step: str) -> None:
    ends, tape = up_to(number)
    repeated = 0
    while (timer := ends.sbr.get_timer()) is not None:
        ends.sbr.handle_timer(timer)
        repeated += ends.say("sbr") == tape[-1:]
    assert repeated == limits.MOST_RETRIES
    assert NoAnswer(NODE_ID, step) in ends.told["sbr"]
    if number == 6:  # the node goes on asking
        assert ends.give("sbr", tape[4:5]) == tape[-1:]
    else:
        assert not any(isinstance(one, Transaction) for one in ends.disks["sbr"].values())


# --- whom a server lets join ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (None, Refusal.UNKNOWN_NODE),
        (NodeRecord(NODE_ID, IK, revoked=True), Refusal.REVOKED),
        (NodeRecord(NODE_ID, IK, domain="elsewhere"), Refusal.OTHER_DOMAIN),
        (NodeRecord(NODE_ID, bytes(16)), Refusal.NOT_THE_KEY),
    ],
)
def test_a_server_refuses(node: NodeRecord | None, reason: Refusal) -> None:
    ends, tape = up_to(2)
    del ends.disks["sbs"][NODE_ID]
    if node is not None:
        ends.disks["sbs"][NODE_ID] = node
    assert ends.give("sbs", tape[-1:]) == []
    assert refusals(ends) == [reason]


@pytest.mark.parametrize("seconds", [-limits.WINDOW_S - 1, limits.WINDOW_S + 1])
def test_a_wrong_clock_only_refuses(seconds: int) -> None:
    ends, tape = up_to(2)
    ends.clocks["sbs"] += seconds
    assert ends.give("sbs", tape[-1:]) == []
    assert refusals(ends) == [Refusal.CLOCK]
    ends.clocks["sbs"] = NOON
    assert ends.give("sbs", tape[-1:])


def test_a_revoked_node_does_not_finish_its_join() -> None:
    ends, tape = up_to(6)
    node = ends.disks["sbs"][NODE_ID]
    assert isinstance(node, NodeRecord)
    ends.disks["sbs"][NODE_ID] = replace(node, revoked=True)
    assert ends.give("sbs", tape[-1:]) == []
    assert refusals(ends) == [Refusal.REVOKED]


def test_a_psk_has_a_lifetime_from_the_time_of_flight_2_on() -> None:
    ends = Ends()
    ends.join()
    node = ends.disks["sbs"][NODE_ID]
    assert isinstance(node, NodeRecord)
    assert node.until == NOON + limits.LIFETIME_S


def test_a_stranger_with_no_sk_cs_gets_no_answer() -> None:
    ends, tape = up_to(2)
    stranger = Sbr(SbrConfig(replace(CONTROLLER, sk_cs=bytes(16)), lambda: NOON), {}, EndpointContext(counted("eve")))
    stranger.receive_frame(tape[0], 0.0)
    written(stranger, {})
    assert ends.give("sbs", stranger.frames_to_send(0.0)) == []
    assert ends.sbs.rejections[Rejection.UNAUTHENTIC] == 1


def test_a_controller_that_calls_itself_by_another_name_is_refused() -> None:
    ends, tape = up_to(1)
    liar = Sbr(SbrConfig(replace(CONTROLLER, sk_cs=OTHER.sk_cs), lambda: NOON), {}, EndpointContext(counted("liar")))
    liar.receive_frame(tape[0], 0.0)
    written(liar, {})
    assert ends.give("sbs", liar.frames_to_send(0.0)) == []
    assert ends.sbs.rejections[Rejection.UNAUTHENTIC] == 1


# --- state, disk, air -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 9))
def test_nothing_leaves_before_what_it_rests_on_is_written(number: int) -> None:
    ends, tape = up_to(number)
    end = getattr(ends, TAKES[number])
    end.receive_frame(tape[-1], 0.0)
    assert end.frames_to_send(0.0) == []
    assert bool(ends.say(TAKES[number])) == (number != 8)


@pytest.mark.parametrize("number", range(1, 9))
def test_what_can_not_be_written_is_as_if_it_had_not_come(number: int) -> None:
    ends, tape = up_to(number)
    name = TAKES[number]
    before = dict(ends.disks[name])
    getattr(ends, name).receive_frame(tape[-1], 0.0)
    ends.refuse(name)
    assert ends.say(name) == []
    assert ends.disks[name] == before
    for each in range(number, 9):  # and when it comes again, all is as ever
        tape += ends.give(TAKES[each], tape[-1:])
    assert ends.node_keys == {ends.network_key} != {IK}


def test_a_controller_that_starts_again_uses_no_number_twice() -> None:
    ends, tape = up_to(2)
    used = {decode(tape[1]).tid}
    for number in range(5):
        ends.begin("sbr")
        ends.sbi.start(0.0, anew=True)
        (asked,) = ends.give("sbr", ends.say("sbi"))
        assert decode(asked).tid not in used, number
        used.add(decode(asked).tid)
    assert ends.disks["sbr"][b"counter"] == TidReservation(1 + 6 * limits.TID_BLOCK)


def test_transactions_that_nobody_ends_push_out_the_oldest() -> None:
    ends = Ends()
    for number in range(limits.MOST_OPEN + 10):
        ends.give("sbr", [keys.flight_1(IK, number.to_bytes(8), bytes(16))])
    open_ones = [one for one in ends.disks["sbr"].values() if isinstance(one, Transaction)]
    assert len(open_ones) == limits.MOST_OPEN
    assert min(one.tid for one in open_ones) == (11).to_bytes(8)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_flight_that_a_state_does_not_take_is_told_by_its_row() -> None:
    ends = Ends()
    tape = ends.join()
    for number in (4, 8):
        assert ends.give("sbi", [tape[number - 1]]) == []
        assert ends.told["sbi"][-1].detail == SBI_FRAMES[Kind(number)].otherwise.detail  # type: ignore[union-attr]
    for number in (2, 6):
        assert ends.give("sbi", [tape[number - 1]]) == ends.give("sbr", [tape[number - 1]]) == []
    for number in (1, 3, 4, 5, 7, 8):
        assert ends.give("sbs", [tape[number - 1]]) == []
    assert ends.sbi.state is SbiState.READY


def test_kinds_and_channels_are_told_from_bytes() -> None:
    _, tape = up_to(8)
    assert [kind_of(Profile.HARDENED, data) for data in tape] == list(Kind)
    assert [channel_of(data).name for data in tape] == [
        "OUT_OF_BAND", "SERVER", "SERVER", "OUT_OF_BAND", "NID", "SERVER", "SERVER", "NID"
    ]  # fmt: skip
    assert [kind_of(Profile.PAPER, bytes(size)) for size in SIZES[Profile.PAPER].values()] == list(Kind)[:5]
    with pytest.raises(FlightError):
        kind_of(Profile.PAPER, bytes(25))


def test_keys_are_logged_only_where_they_are_asked_for() -> None:
    lines: list[str] = []
    ends = Ends()
    ends.sbi = Sbi(ends.node, EndpointContext(counted("logged"), key_log=lines.append))
    ends.join()
    assert lines == [f"BTSS_PSK {NODE_ID.hex()} {ends.network_key.hex()}"]
    assert any(isinstance(event, KeyTaken) for event in ends.told["sbi"])


def test_steps_of_a_transaction_are_states_of_its_machine() -> None:
    states = {state.name for state, _ in SBR_TABLE} | {state.name for state in SBR_TABLE.values()}
    assert {step.name for step in Step} == states - {"NEW", "OVER"}


def test_an_answer_to_an_older_flight_1_of_a_node_does_not_displace_a_newer_one() -> None:
    ends, tape = up_to(2)
    ends.sbi.start(0.0, anew=True)
    (newer,) = ends.give("sbr", ends.say("sbi"))
    assert ends.give("sbr", ends.give("sbs", tape[-1:]))  # the older one is answered first
    (flight4,) = ends.give("sbr", ends.give("sbs", [newer]))
    assert ends.give("sbi", [flight4])


def test_an_answer_that_can_not_be_written_is_asked_for_again() -> None:
    ends, tape = up_to(3)
    ends.sbr.receive_frame(tape[-1], 0.0)
    ends.refuse("sbr")
    timer = ends.sbr.get_timer()
    assert timer is not None
    ends.sbr.handle_timer(timer)
    assert ends.say("sbr") == [tape[1]]
