"""Two programs agree on a key over plain UDP and talk under it. In two terminals:

    python examples/key_over_udp.py bob                       # until Ctrl-C
    python examples/key_over_udp.py alice "pump on" "warm?"   # until answered

The library has no socket and no clock: `drive` has an endpoint's five verbs.
"""

import os
import random
import socket
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

import bt_selfsecure as bt

PORTS = {"alice": 5730, "bob": 5731}  # and their names are their identities; with a radio, the device address is
LOSS = 0.1  # of what arrives, so that there are losses to see. Drawn by a program they keep no secret from anybody.
End = bt.Initiator | bt.Responder | bt.Session


def drive(ends: list[End], udp: socket.socket, peer: tuple[str, int]) -> Iterator[bt.events.Event]:
    """Drive endpoints that share a socket, and yield what they tell: an endpoint drops frames that are not its own."""
    while True:
        for end in ends:
            end.handle_timer(monotonic())  # 1: what is due by now
            while (event := end.next_event()) is not None:  # 2: what has happened. Events come before frames, for
                yield event  # a session's frame may leave only after the caller has stored what the event tells
            for frame in end.frames_to_send(monotonic()):  # 3: what is to leave now
                udp.sendto(frame, peer)  # while nobody is there it is lost, as on a radio
        deadlines = [deadline for end in ends if (deadline := end.get_timer()) is not None]  # 4: how long to wait
        udp.settimeout(max(0.0001, min(deadlines) - monotonic()) if deadlines else None)
        with suppress(TimeoutError):
            data = udp.recv(65535)
            for end in ends if random.random() >= LOSS else []:
                end.receive_frame(data, monotonic())  # 5: what has come; it may be anything


def talk(name: str, queue: list[str], udp: socket.socket, peer: tuple[str, int]) -> None:
    # On a radio: the secret bits that you want and the `eve_loss_bound` you measured. Here X25519 carries the key.
    config = bt.EstablishConfig(name.encode().ljust(6), burst=100, target_bits=1, exchange_shares=True, compare=True)
    role = bt.Role.INITIATOR if name == "alice" else bt.Role.RESPONDER
    context = bt.EndpointContext(os.urandom, name=name)
    ends: list[End] = [(bt.Initiator if name == "alice" else bt.Responder)(config, context)]
    if isinstance(ends[0], bt.Initiator):
        ends[0].start(monotonic())
    session, unanswered = None, len(queue) if name == "alice" else -1
    for event in drive(ends, udp, peer):
        match event:
            case bt.events.Established():
                print(f"a key from {len(event.received)} of {event.sent} packets; compare {event.sas}", flush=True)
                session = bt.Session.start(bt.Profile.HARDENED, role, event.k0, bt.SessionConfig(), context)
                ends[1:] = [session]  # the first stays: the other end may not have heard its last frame
            case bt.events.EstablishFailed() if name == "alice":
                raise SystemExit(f"no key: {event.reason.value}")
            case bt.events.MessageReceived():  # the peer's, unchanged, once, in order
                print(event.message.decode(), flush=True)
                queue, unanswered = queue + [f"got: {event.message.decode()}"] * (name == "bob"), unanswered - 1
        if session and isinstance(event, bt.events.StateChanged):  # to survive a crash, first write to a file, in one
            session.persisted(event.token)  # transaction, the message and event.record.to_json()
        if session and session.can_send and queue:  # one message is under way at a time
            session.send(queue.pop(0).encode(), monotonic())
        if session and unanswered == 0:  # alice has it all
            return


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PORTS)
    parser.add_argument("message", nargs="*", help="what alice says")
    parser.add_argument("--host", default="127.0.0.1", help="address of both (default %(default)s)")
    args = parser.parse_args()
    with suppress(KeyboardInterrupt), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
        try:
            mine.bind((args.host, PORTS[args.name]))
        except OSError as error:
            raise SystemExit(f"no {args.name} at {args.host}: {error.strerror}; is one running there?") from None
        talk(args.name, args.message, mine, (args.host, PORTS["bob" if args.name == "alice" else "alice"]))
