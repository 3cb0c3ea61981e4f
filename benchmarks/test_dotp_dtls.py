"""D-OTP in the DTLS layer, as the paper measures it: one GET a session, a key a session, both ends, on loopback.

The baseline is the same sessions with one static key, and the paper's list of used numbers is measured beside.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack, closing

from bt_selfsecure.bench.coap.figures import PAPER, POLICIES, TURN, DtlsSessions

SESSIONS = 9100
MOST_POINTS = 1.0
LIST = "per-io-nrprng 64"


def turn(*each: DtlsSessions) -> list[float]:
    """Return the CPU seconds of a turn of each; they go session by session, so that all are disturbed alike."""
    spent = [0.0] * len(each)
    for _ in range(TURN):
        for number, sessions in enumerate(each):
            begin = time.process_time()
            sessions.run()
            spent[number] += time.process_time() - begin
    return spent


def overhead(ours: list[float], bare: list[float]) -> float:
    """Return the percentage, from the turns that were disturbed least and most alike."""
    return 100 * (statistics.median(a / b for a, b in zip(ours, bare, strict=True)) - 1)


def test_9100_dtls_sessions_cost_within_a_percentage_point_of_what_100_cost() -> None:
    start = POLICIES["hardened 256"]
    with ExitStack() as until_end:
        static, same, listed = (
            until_end.enter_context(closing(DtlsSessions(of))) for of in (None, start, POLICIES[LIST])
        )
        seconds = []
        for _ in range(SESSIONS // TURN):  # the first 100 of a new pair, and 100 more of the one
            with closing(DtlsSessions(None)) as static_anew, closing(DtlsSessions(start)) as anew:
                seconds.append([*turn(static_anew, anew, static, same), *turn(listed)])
    bare_few, few, bare, many, list_ = (list(column) for column in zip(*seconds, strict=True))
    at_few, at_many = overhead(few, bare_few), overhead(many, bare)
    print(f"\nDTLS, over one static key: {TURN} sessions {at_few:.2f} %, {SESSIONS} {at_many:.2f} %")
    listed_few = 100 * (list_[0] / bare[0] - 1)
    listed_all, of_total = 100 * (sum(list_) / sum(bare) - 1), 100 * (1 - sum(bare) / sum(list_))
    print(
        f"the paper's list: {TURN} sessions {listed_few:.2f} %, {SESSIONS} {listed_all:.2f} % (of all {of_total:.2f})"
    )
    print(f"the paper says: {PAPER[LIST]}")
    assert abs(at_many - at_few) <= MOST_POINTS
