"""Rules of `PeerMachine` that no invariant tells, each by the one schedule that needs it; in virtual time."""

from __future__ import annotations

import pytest
from peer_world import PATIENCE_S, PeerWorld

from bt_selfsecure.node.haoxiao import peer_upkeep
from bt_selfsecure.node.haoxiao.peer_upkeep import LOOK_S, NO_COMMON_KEY_S
from bt_selfsecure.protocols.haoxiao.session_config import Durability

DURABILITIES = pytest.mark.parametrize("durability", Durability)


def connected(durability: Durability, seed: int) -> PeerWorld:
    world = PeerWorld(durability, seed=seed)
    world.pass_time(PATIENCE_S, until=world.is_connected)
    assert world.is_connected()
    for i in (0, 1):
        world.write(i)
    return world


@pytest.mark.parametrize("dialled_by", [0, 1])
def test_two_ends_that_begin_with_a_link_dial_no_other_and_the_one_that_dialled_it_leads(dialled_by: int) -> None:
    world = PeerWorld(Durability.EVERY_MESSAGE, dialled_by=dialled_by)
    world.pass_time(PATIENCE_S, until=world.is_connected)
    assert world.is_connected()
    assert [(len(world.wires), end.dials, end.machine.counts.links) for end in world.ends] == [(1, [], 1)] * 2
    lines = [end.machine.links.session_line for end in world.ends]
    assert [line is not None and line.dialled for line in lines] == [dialled_by == 0, dialled_by == 1]


def asunder(durability: Durability, seconds: float) -> PeerWorld:
    """One has started anew, and they are linked for so long and hear noise, but nothing that the other says: each may
    have another key for all that they know."""
    world = connected(durability, 1)
    world.crash(0)
    while not world.wires:
        for i in (0, 1):
            if world.ends[i].downs:
                world.down(i)
            elif world.ends[i].dials:
                world.dial_over(i, good=True)
            else:
                world.timeout(i)
    until = world.now + seconds
    while world.wires:
        if world.deliver(0, lose=True) or world.deliver(1, lose=True):
            continue
        at, i = min((end.machine.get_timer(), i) for i, end in enumerate(world.ends))
        if at > until:
            break
        world.timeout(i)
        for i in (0, 1):
            world.inject(i, b"noise")
    assert world.wires, "the link lasts"
    return world


def has_asked(world: PeerWorld) -> bool:
    """Whether the end that dialled has asked for another key."""
    machine = world.ends[0].machine
    return machine.agreement.is_under_way or machine.counts.failed_establishments > 0


@DURABILITIES
def test_two_ends_that_are_linked_and_find_no_common_key_for_half_a_minute_agree_on_another(
    durability: Durability,
) -> None:
    assert not has_asked(asunder(durability, NO_COMMON_KEY_S - LOOK_S))
    world = asunder(durability, NO_COMMON_KEY_S + 2 * LOOK_S)
    assert has_asked(world)
    world.pass_time(PATIENCE_S, until=world.is_connected)
    assert world.is_connected()


def test_no_other_rule_makes_two_ends_without_a_common_key_agree_on_one_in_that_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the test above would show nothing."""
    monkeypatch.setattr(peer_upkeep, "NO_COMMON_KEY_S", float("inf"))
    assert not has_asked(asunder(Durability.EVERY_MESSAGE, NO_COMMON_KEY_S + 2 * LOOK_S))


@DURABILITIES
def test_while_the_disk_refuses_the_session_is_given_nothing_and_then_all_of_it(durability: Durability) -> None:
    world = connected(durability, 1)
    alice = world.ends[0]
    world.refuse(0)
    world.say(0)
    assert not alice.machine.disk_is_well
    waiting = alice.machine.session.waiting
    number = alice.machine.send(b"0:77", 0, world.now, durable=False)
    world.act(0)
    assert [wire.queues for wire in world.wires if any(wire.queues)] == []
    assert alice.machine.session.outbox.holds(number)
    assert alice.machine.session.waiting == waiting + 1
    world.pass_time(60.0)
    assert b"0:77" not in world.ends[1].written.inbox
    world.mend(0)
    world.pass_time(60.0)
    world.write(1)
    assert world.ends[1].written.inbox[-1] == b"0:77"


def test_a_key_for_programs_that_is_asked_for_again_writes_nothing() -> None:
    world = PeerWorld(Durability.EVERY_MESSAGE)
    world.heal()
    world.export(0, rotate=False)
    world.heal()
    end = world.ends[0]
    token = end.token
    world.export(0, rotate=False)
    assert (end.token, end.noted) == (token, [])
    assert end.machine.session.generations.agreed


def test_whoever_waits_for_the_other_end_to_begin_dials_no_sooner_and_whoever_asks_does() -> None:
    """A pairing waits again and again; dials that cross each of the other end's would leave that no link."""
    world = PeerWorld(Durability.EVERY_MESSAGE, seed=1)
    world.adapter_up(0)
    world.dial_over(0, good=False)
    world.ends[0].machine.establish(world.now, wait=True)
    world.act(0)
    assert world.ends[0].dials == []
    world.establish(0)
    assert world.ends[0].dials == ["rfcomm"]
