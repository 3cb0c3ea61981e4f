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


def turn(*each: DtlsSessions) -> list[list[float]]:
    """Return the CPU seconds of each session of a turn; they go one by one, so that all are disturbed alike."""
    spent: list[list[float]] = [[] for _ in each]
    for _ in range(TURN):
        for own, sessions in zip(spent, each, strict=True):
            begin = time.process_time()
            sessions.run()
            own.append(time.process_time() - begin)
    return spent


def overhead(ours: list[float], bare: list[float]) -> float:
    """Return the percentage between two sessions in the middle: those that other programs disturbed are at the ends, as
    is the one in 64 that reserves numbers."""
    return 100 * (statistics.median(ours) / statistics.median(bare) - 1)


def test_9100_dtls_sessions_cost_within_a_percentage_point_of_what_100_cost() -> None:
    start = POLICIES["hardened 256"]
    spent: list[list[float]] = [[] for _ in range(5)]
    with ExitStack() as until_end:
        static, same, listed = (
            until_end.enter_context(closing(DtlsSessions(of))) for of in (None, start, POLICIES[LIST])
        )
        for _ in range(SESSIONS // TURN):  # the first 100 of a new pair, and 100 more of the one
            with closing(DtlsSessions(None)) as static_anew, closing(DtlsSessions(start)) as anew:
                for all_of_one, more in zip(
                    spent, [*turn(static_anew, anew, static, same), *turn(listed)], strict=True
                ):
                    all_of_one += more
    bare_few, few, bare, many, list_ = spent
    at_few, at_many = overhead(few, bare_few), overhead(many, bare)
    print(f"\nDTLS, over one static key: {TURN} sessions {at_few:.2f} %, {SESSIONS} {at_many:.2f} %")
    print(f"in sum {100 * (sum(few) / sum(bare_few) - 1):.2f} %, {100 * (sum(many) / sum(bare) - 1):.2f} %")
    listed_few = overhead(list_[:TURN], bare[:TURN])
    listed_all, of_total = 100 * (sum(list_) / sum(bare) - 1), 100 * (1 - sum(bare) / sum(list_))
    print(f"the paper's list: {TURN} sessions {listed_few:.2f} %, {SESSIONS} {listed_all:.2f} (of all {of_total:.2f})")
    print(f"the paper says: {PAPER[LIST]}")
    assert abs(at_many - at_few) <= MOST_POINTS
