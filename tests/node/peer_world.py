"""Two peer machines that face each other, with links, disks and adapters that do what a schedule says; virtual time.

The driver of each end does as `peer.py` does, and checks as it goes:

1. *State first.* What a frame tells of (a message, an acknowledgement, a key) is on the disk when it leaves.
2. *Once, in order, never where refused.* `every-message`: what an inbox has on disk is what the other end's programs
   said, in that order, each once, and all of it that was told as kept or delivered, in the end.
3. *Every wish has an outcome*, unless its process died.
4. *A key for other programs only where the other end has it, too.* Once wanted, both come to hold the same.
5. *No deadlock.* `heal`: with links, disks and adapters that work both ends are connected within `PATIENCE_S`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

from peer_ends import End, Wire, Wish

from bt_selfsecure.node.haoxiao.peer_events import (
    Commit,
    Delivered,
    Dial,
    EstablishOutcome,
    GatherBurst,
    GenerationAgreed,
    HangUp,
    Kept,
    Log,
    PeerConfig,
    Refused,
    ReleaseRadio,
    Send,
    SendBurst,
    Stored,
    TakeRadio,
    Urgency,
)
from bt_selfsecure.node.haoxiao.peer_links import LinkFacts
from bt_selfsecure.node.haoxiao.peer_machine import PeerMachine
from bt_selfsecure.node.haoxiao.peer_status import PeerState, state_of
from bt_selfsecure.node.haoxiao.shared_burst import SharedBurst
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig, Timers
from bt_selfsecure.protocols.haoxiao.exported import KeptGenerations
from bt_selfsecure.protocols.haoxiao.frames import Kind, decode
from bt_selfsecure.protocols.haoxiao.session_config import Durability, SessionConfig
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.trace import Tracer

IDENTITIES = (bytes(5) + b"\x01", bytes(5) + b"\x02")
"""The first end's is the lower, so that it dials."""
PATIENCE_S = 400.0
TIMERS = Timers(t_h=0.5, t_w=0.5, t_2=0.3, t_3=0.3, t_d=1.0, waiting=1.0)
BURST = 4


class PeerWorld:
    """Everything that is not said to happen waits."""

    def __init__(
        self,
        durability: Durability,
        *,
        seed: int = 1,
        establish_bearer: str = "rfcomm",
        tracer: Tracer | None = None,
        dialled_by: int | None = None,
    ) -> None:
        """With `dialled_by` both begin with a link, which that end has dialled."""
        self.now = 0.0
        self.tracer = tracer
        self.durability = durability
        self.establish_bearer = establish_bearer
        self.random = self.source(f"{seed} of the world")
        self.sources = [self.source(f"{seed} of end {i}") for i in (0, 1)]
        self.counter = [itertools.count(1) for _ in (0, 1)]
        self.link_numbers = itertools.count(1)
        self.wires: list[Wire] = []
        self.ever: list[bytes] = []
        """All frames that ever left, or many of them."""
        self.ends = [End(self._machine(i, Stored())) for i in (0, 1)]
        for i in (0, 1):
            self.adapter_up(i, link_follows=dialled_by is not None)
        if dialled_by is not None:
            self._link(dialled_by, "rfcomm")

    @staticmethod
    def source(seed: str) -> Any:
        return random.Random(seed)

    def _machine(self, i: int, stored: Stored) -> PeerMachine:
        config = PeerConfig(
            name="ab"[1 - i],
            identity=IDENTITIES[1 - i],
            dial="auto",
            session=SessionConfig(self.durability, checkpoint_rounds=2, omega=1),
            session_bearer="rfcomm",
            establish_bearer=self.establish_bearer,
            no_radio="",
            fragment_bytes=12,
            queue_messages=100,
            renew_hours=0.0,
            renew_messages=0,
            rests_on=lambda visible, hybrid, authenticated: "",
        )
        source, counter = self.sources[i], self.counter[i]
        context = EndpointContext(source.randbytes, self.tracer, name=config.name)
        return PeerMachine(config, stored, context, counter.__next__, self.now)

    # --- what may happen ----------------------------------------------------------------------------------------------

    def adapter_up(self, i: int, *, link_follows: bool = False) -> None:
        end = self.ends[i]
        if not end.adapter:
            end.adapter = True
            establish = EstablishConfig(
                IDENTITIES[i],
                timers=TIMERS,
                burst=BURST,
                max_burst=2 * BURST,
                interval=0.001,
                threshold=3,
                target_bits=1.0,
                eve_loss_bound=0.5,
                max_requests=3,
                compact=self.establish_bearer == "le_advert",
            )
            end.machine.adapter_up(f"00:00:00:00:00:0{i + 1}", establish, self.now, link_follows=link_follows)
            self.act(i)

    def adapter_gone(self, i: int) -> None:
        end = self.ends[i]
        if end.adapter:
            end.adapter = False
            end.machine.adapter_gone(self.now)
            self.act(i)
            assert not end.key_wishes, "without an adapter there will be no key"
            self.cut(i)

    def sighted(self, i: int) -> None:
        self.ends[i].machine.sighted(self.now)
        self.act(i)

    def say(self, i: int, *, durable: bool = True, size: int = 8, stays: bool = False) -> None:
        """A program of this end sends its next message, or the node one of its own."""
        end = self.ends[i]
        if end.refuses and not end.machine.disk_is_well and not stays:
            return  # the driver refuses it
        message = f"{i}:{end.said}".encode().ljust(size, b".")
        end.said += 1
        number = end.machine.send(message, 0, self.now, durable=durable, stays=stays)
        end.wishes[number] = Wish(message, durable, stays)
        self.act(i)
        if durable:
            assert end.wishes[number].told, "a durable message has an outcome at once"

    def establish(self, i: int) -> None:
        """A program of this end wants another key."""
        self.ends[i].key_wishes += 1
        self.ends[i].machine.establish(self.now)
        self.act(i)

    def export(self, i: int, *, rotate: bool) -> None:
        """A program of this end wants a key of its own, or the next one."""
        self.ends[i].machine.export(self.now, rotate=rotate)
        self.act(i)

    def give_up(self, i: int) -> None:
        """The programs of this end wait for no key any more."""
        self.ends[i].key_wishes = 0
        self.ends[i].machine.abandon_establish()

    def inject(self, to: int, data: bytes) -> None:
        """Bytes of an outsider's own making come, or what was heard before."""
        for wire in self.wires[:1]:
            self.ends[to].machine.receive(wire.numbers[to], data, self.now)
            self.act(to)

    def dial_over(self, i: int, *, good: bool) -> None:
        """What an end dials is there, or can't be had."""
        end, other = self.ends[i], self.ends[1 - i]
        bearer = end.dials.pop(0)
        if not (good and other.adapter and end.adapter):
            end.machine.dial_failed(bearer, "out of reach", self.now)
            self.act(i)
            return
        self._link(i, bearer)

    def _link(self, i: int, bearer: str) -> None:
        wire = Wire(bearer, {i: next(self.link_numbers), 1 - i: next(self.link_numbers)})
        self.wires.append(wire)
        for which in (i, 1 - i):
            if wire in self.wires:
                facts = LinkFacts(dialled=which == i, losses_visible=True)
                self.ends[which].machine.link_up(wire.numbers[which], bearer, facts, self.now)
                self.act(which)

    def deliver(self, to: int, *, lose: bool = False) -> bool:
        """The oldest datagram on its way to this end arrives, or is lost; whether there was one."""
        for wire in self.wires:
            if wire.queues[to]:
                data = wire.queues[to].popleft()
                if not lose:
                    self.ends[to].machine.receive(wire.numbers[to], data, self.now)
                    self.act(to)
                return True
        return False

    def cut(self, i: int) -> None:
        """All links of this end end, and what is on its way is lost."""
        for wire in list(self.wires):
            self._close(wire)

    def down(self, i: int) -> None:
        """The machine is told of the oldest link that has ended."""
        number = self.ends[i].downs.pop(0)
        self.ends[i].machine.link_down(number, "the link ended", self.now)
        self.act(i)

    def timeout(self, i: int) -> None:
        """This end's next deadline is there."""
        at = self.ends[i].machine.get_timer()
        if at is not None:
            self.now = max(self.now, at)
            self.ends[i].machine.handle_timer(self.now)
            self.act(i)

    def gathered(self, i: int) -> None:
        """The node has found nobody else for a burst, and begins it, where it is still wanted."""
        end = self.ends[i]
        end.gathers = False
        if config := end.machine.agreement.burst_config(self.now):
            context = EndpointContext(self.sources[i].randbytes, self.tracer, name="burst")
            shared = SharedBurst([config], context)
            end.machine.join_burst(shared.legs[config.peer], self.now)
            shared.start(self.now)
            end.machine.handle_timer(self.now)
            self.act(i)

    def burst_sent(self, i: int, *, lose: bool = False) -> None:
        """A packet of a burst has left."""
        end = self.ends[i]
        packet = end.bursts.pop(0)
        if packet.link is not None:
            self._transmit(i, packet.link, packet.data)
        elif end.radio == "held" and self.ends[1 - i].radio == "held" and not lose:
            self.ends[1 - i].machine.overhear(packet.data, self.now)
            self.act(1 - i)
        end.machine.burst_sent(self.now, "the adapter refused it" if lose else "")
        self.act(i)

    def radio(self, i: int, *, good: bool) -> None:
        """The radio is granted or refused to an end that has asked, and lost by one that has it."""
        end = self.ends[i]
        if end.radio == "asked" and good:
            end.radio = "held"
            end.machine.radio_granted(self.now)
        elif end.radio == "asked":
            end.radio = "free"
            end.machine.radio_refused("the adapter refused it", self.now)
        elif end.radio == "held" and not good:
            end.radio = "free"
            end.machine.radio_lost(self.now)
        self.act(i)

    def refuse(self, i: int) -> None:
        """The disk of this end takes nothing from now on."""
        self.ends[i].refuses = True

    def mend(self, i: int) -> None:
        """The disk of this end works again, and the node tries it."""
        end = self.ends[i]
        end.refuses = False
        end.machine.disk_works(self.now)
        self.write(i)
        self.act(i)

    def write(self, i: int) -> None:
        """The node commits what was left for later."""
        self._commit(i, sync=False)
        self.act(i)

    def crash(self, i: int, *, power: bool = False) -> None:
        """This end dies, and starts again from what its disk has."""
        end = self.ends[i]
        end.crashes += 1
        end.written = end.synced = end.synced if power else end.written
        end.noted.clear()
        self.cut(i)
        end.dials.clear()
        end.downs.clear()
        end.bursts.clear()
        end.gathers = False
        end.radio, end.key_wishes, end.token, end.refuses, end.adapter = "free", 0, 0, False, False
        end.machine = self._machine(i, end.written.stored())
        self.act(i)
        self.adapter_up(i)

    # --- the driver ---------------------------------------------------------------------------------------------------

    def act(self, i: int) -> None:
        end = self.ends[i]
        while (output := end.machine.next_event()) is not None:
            match output:
                case Send():
                    self._check_state_first(i, output.data)
                    self._transmit(i, output.link, output.data)
                case SendBurst():
                    end.bursts.append(output)
                case Dial():
                    end.dials.append(output.bearer)
                case HangUp():
                    for wire in [wire for wire in self.wires if wire.numbers[i] == output.link]:
                        self._close(wire)
                case GatherBurst():
                    end.gathers = True
                case TakeRadio():
                    assert end.radio == "free"
                    end.radio = "asked"
                case ReleaseRadio():
                    assert end.radio != "free"
                    end.radio = "free"
                case Commit():
                    end.token = output.token
                    if output.urgency is not Urgency.LATER:
                        self._commit(i, sync=output.urgency is Urgency.SYNC)
                case Kept() | Refused() | Delivered():
                    self._tell(end, output)
                case EstablishOutcome():
                    assert end.key_wishes
                    end.key_wishes = 0
                case GenerationAgreed() | Log():
                    pass
                case _:
                    end.noted.append(output)
        self._check_generation(i)

    def _commit(self, i: int, *, sync: bool) -> None:
        end = self.ends[i]
        if end.refuses:
            end.machine.refused(self.now)
            return
        end.written = end.written.after(end.noted)
        end.noted.clear()
        if sync or self.durability is Durability.EVERY_MESSAGE:
            end.synced = end.written
        end.machine.persisted(end.token, self.now)
        self._check_inbox(i)

    @staticmethod
    def _tell(end: End, output: Kept | Refused | Delivered) -> None:
        if wish := end.wishes.get(output.number):  # else it is of a fragment before the last
            assert wish.told != "Refused", "what was refused has no other outcome"
            assert not (isinstance(output, Refused) and wish.told), "what was kept is not refused"
            assert not (isinstance(output, Refused) and wish.stays), "what stays is not refused"
            wish.told = type(output).__name__

    def _transmit(self, i: int, link: int, data: bytes) -> None:
        self.ever.append(data)
        for wire in self.wires:
            if wire.numbers[i] == link:
                wire.queues[1 - i].append(data)

    def _close(self, wire: Wire) -> None:
        self.wires.remove(wire)
        for which, number in wire.numbers.items():
            self.ends[which].downs.append(number)

    # --- what must hold -----------------------------------------------------------------------------------------------

    def _check_state_first(self, i: int, data: bytes) -> None:
        disk, frame = self.ends[i].written, decode(data)
        record = disk.state.record if disk.state else None
        match frame.kind:
            case Kind.END:
                assert record, "the key that an end packet tells of is on disk"
                assert record.sending.offer or not disk.state.offered
            case Kind.DATA if self.durability is Durability.EVERY_MESSAGE:
                assert record, "a round without a record"
                assert record.sending.messages, "a message leaves before it is on disk"
                assert record.sending.chain.seq & 255 == frame.seq
            case Kind.DATA_ACK if self.durability is Durability.EVERY_MESSAGE:
                assert record, "an acknowledgement without a record"
                assert record.receiving.chain.seq & 255 == frame.seq, "a message is acknowledged before it is on disk"
            case Kind.RESYNC_CALL | Kind.RESYNC_REQUEST | Kind.RESYNC_RESPONSE:
                assert record, "a resynchronisation without a record"
            case _:
                pass

    def _check_generation(self, i: int) -> None:
        """The other end can give its programs the same keys, or what it gives is on its way to this end: the next, or
        the first of a newer K_0."""
        own, disk = self.ends[i].machine.session.generations.kept, self.ends[1 - i].written
        theirs = disk.state.generations if disk.state else KeptGenerations()
        if own.agreed and own.newest and own.agreed not in (theirs.newest, theirs.agreed):
            is_on_its_way = theirs.agreed == own.newest or own.newest.name != own.agreed.name
            assert is_on_its_way, "a generation that the other end does not hold"

    def _check_inbox(self, i: int) -> None:
        """Of what the other end's programs have said."""
        sender, inbox = self.ends[1 - i], self.ends[i].written.inbox
        refused = {wish.message for wish in sender.wishes.values() if wish.told == "Refused"}
        assert not refused.intersection(inbox), "what was refused has come"
        if self.durability is Durability.EVERY_MESSAGE or not any(end.crashes for end in self.ends):
            numbers = [int(message.split(b":")[1].strip(b".")) for message in inbox]
            assert numbers == sorted(set(numbers)), "twice, or out of order"

    def _check_all_came(self, i: int) -> None:
        end, inbox = self.ends[i], set(self.ends[1 - i].written.inbox)
        if self.durability is Durability.EVERY_MESSAGE or not any(each.crashes for each in self.ends):
            for wish in end.wishes.values():
                assert wish.told not in ("Kept", "Delivered") or wish.message in inbox, "lost"
                assert not wish.stays or any(each.crashes for each in self.ends) or wish.message in inbox, "left behind"

    # --- peace --------------------------------------------------------------------------------------------------------

    def flow(self) -> None:
        """All that is on its way or under way arrives and succeeds, in order, until nothing is."""
        for _ in range(10_000):
            if not sum(self._step(i) for i in (0, 1)):
                return
        raise AssertionError("it never falls silent")

    def pass_time(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """So long all goes its way; deadlines are met."""
        end = self.now + seconds
        self.flow()
        for _ in range(10_000):
            deadlines = [(at, i) for i in (0, 1) if (at := self.ends[i].machine.get_timer()) is not None]
            if until() or not deadlines or min(deadlines)[0] > end:
                return
            self.timeout(min(deadlines)[1])
            self.flow()
        raise AssertionError("deadlines that never end")

    def _step(self, i: int) -> bool:
        end = self.ends[i]
        if end.downs:
            self.down(i)
        elif end.dials:
            self.dial_over(i, good=True)
        elif end.gathers:
            self.gathered(i)
        elif end.radio == "asked":
            self.radio(i, good=True)
        elif end.bursts:
            self.burst_sent(i)
        elif not self.deliver(i):
            return False
        return True

    def is_connected(self) -> bool:
        return all(state_of(end.machine) is PeerState.CONNECTED for end in self.ends)

    def is_done(self) -> bool:
        """Both ends are connected, and owe nothing."""
        owing = (end.machine.session.outbox or end.key_wishes for end in self.ends)
        under_way = (
            end.machine.session.session and end.machine.session.session.record.sending.messages for end in self.ends
        )
        return self.is_connected() and not any(owing) and not any(under_way)

    def heal(self) -> None:
        """Whatever has happened: if all works from now on, all is well soon."""
        for i in (0, 1):
            if self.ends[i].refuses or not self.ends[i].machine.disk_is_well:
                self.mend(i)
            self.adapter_up(i)
        self.pass_time(PATIENCE_S, self.is_done)
        assert self.is_done(), [state_of(end.machine).value for end in self.ends]
        for i in (0, 1):
            self.write(i)
            self._check_inbox(i)
        ours, theirs = (end.machine.session.generations.kept for end in self.ends)
        if ours.wanted and theirs.wanted:
            assert ours.agreed, "a key that was wanted, and never came"
            assert ours.agreed == theirs.agreed == ours.newest == theirs.newest
        else:
            assert not ours.wanted
            assert not theirs.wanted
        for i, end in enumerate(self.ends):
            self._check_all_came(i)
            assert not end.key_wishes
            for wish in end.wishes.values():
                assert wish.told or end.crashes, "a wish without an outcome"
