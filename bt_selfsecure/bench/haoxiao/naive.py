"""Row 10 of docs/protocols/haoxiao.md: what a lost ACK does to two ends that read [14] and [15] naively.

The receiver rolls its key with the attempt that it accepted [14]. Its ACK is lost, so the sender tries again with fresh
Rand and Retran 1, hears the repeated ACK, and rolls with this last attempt [15]. From then on the keys differ.
"""

from __future__ import annotations

from random import Random
from typing import Final

from bt_selfsecure.air.models import LossModel
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.protocols.haoxiao.suites import PAPER, Attempt

MESSAGES: Final = 300
MESSAGE: Final = b"a message of the naive reading"
MOST_ATTEMPTS: Final = 10_000
"""Of one message: more are not tried, lest an air that lets nothing through be tried for ever."""


def message_of_parting(model: LossModel, seed: int, messages: int = MESSAGES) -> int | None:
    """Return the message, from 1, after which the two keys differ, over the losses of `model`; None if they never did,
    or no message came through before."""
    random = Random(seed)
    alice = bob = Chain.start(PAPER, random.randbytes(32), b"naive", SessionConfig().checkpoint_rounds)
    for number in range(1, messages + 1):
        rolling = _round(alice, bob, model, random)
        if rolling is None:
            return None
        last, accepted = rolling
        alice, bob = alice.rolled(last, MESSAGE), bob.rolled(accepted, MESSAGE)
        if alice.key != bob.key:
            return number
    return None


def _round(alice: Chain, bob: Chain, model: LossModel, random: Random) -> tuple[Attempt, Attempt] | None:
    """The attempts that the sender and the receiver roll with; None if the sender never heard an ACK."""
    accepted: Attempt | None = None
    for attempt in range(MOST_ATTEMPTS):
        frame, last = alice.seal(MESSAGE, min(attempt, 1), random.randbytes)
        if "bob" in model.transmit(random, "alice", ("bob",), 0.0):
            accepted = accepted or bob.open(frame)[1]
            if "alice" in model.transmit(random, "bob", ("alice",), 0.0):
                return last, accepted
    return None
