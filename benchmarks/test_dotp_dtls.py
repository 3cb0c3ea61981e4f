"""D-OTP in the DTLS layer, as the paper measures it: one GET a session, a key a session, both ends, on loopback.

The baseline is the same sessions with one static key, and the paper's list of used numbers is measured beside. They run
in turns of 100 sessions, so that all are disturbed alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, closing

from bt_selfsecure.bench.coap.figures import PAPER, POLICIES, TURN, DtlsSessions

SESSIONS, BEGINNINGS = 9100, 31
MOST_POINTS = 1.0
LIST = "per-io-nrprng 64"
BEGIN: dict[str, Callable[[], DtlsSessions]] = {
    "static": lambda: DtlsSessions(None),
    "hardened": lambda: DtlsSessions(POLICIES["hardened 256"]),
    "list": lambda: DtlsSessions(POLICIES[LIST]),
}


def turn(sessions: DtlsSessions) -> float:
    """Return the CPU seconds of a turn."""
    begin = time.process_time()
    for _ in range(TURN):
        sessions.run()
    return time.process_time() - begin


def in_turns(ways: Callable[[], dict[str, DtlsSessions]], times: int) -> dict[str, list[float]]:
    """Return the seconds of so many turns of what `ways` gives each time."""
    seconds: dict[str, list[float]] = {name: [] for name in BEGIN}
    for number in range(times):
        each = list(ways().items())
        for name, sessions in each if number % 2 else reversed(each):
            seconds[name].append(turn(sessions))
    return seconds


def overhead(ours: list[float], bare: list[float]) -> float:
    """Return the percentage, from the turns that were disturbed least and most alike."""
    return 100 * (statistics.median(a / b for a, b in zip(ours, bare, strict=True)) - 1)


def test_9100_dtls_sessions_cost_within_a_percentage_point_of_what_100_cost() -> None:
    with ExitStack() as open_now:

        def anew() -> dict[str, DtlsSessions]:
            return {name: open_now.enter_context(closing(begin())) for name, begin in BEGIN.items()}

        few = in_turns(anew, BEGINNINGS)
        same = anew()
        many = in_turns(lambda: same, SESSIONS // TURN)
    at_few, at_many = (overhead(seconds["hardened"], seconds["static"]) for seconds in (few, many))
    print(f"\nDTLS, over one static key: {TURN} sessions {at_few:.2f} %, {SESSIONS} {at_many:.2f} %")
    listed_few = overhead(few["list"], few["static"])
    listed_all = 100 * (sum(many["list"]) / sum(many["static"]) - 1)
    of_total = 100 * (1 - sum(many["static"]) / sum(many["list"]))
    print(
        f"the paper's list: {TURN} sessions {listed_few:.2f} %, {SESSIONS} {listed_all:.2f} % ({of_total:.2f} % of all)"
    )
    print(f"the paper says: {PAPER[LIST]}")
    assert abs(at_many - at_few) <= MOST_POINTS
