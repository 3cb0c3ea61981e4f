"""Two real nodes on virtual Pis, at length: every bearer under loss."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab_nodes import Nodes
from running_lab import RunningLab
from test_nodes import assert_same_key, exchange

pytestmark = [pytest.mark.lab, pytest.mark.long]

MESSAGES = 1000
LONGEST = 700
"""Bytes: three frames on l2cap; with more it would take longer, and show nothing else."""
IMPATIENT = "timeout_ms = 100\nmax_timeout_s = 0.2\n"
"""Where the air is lossy but not crowded, waits that double up to 10 s would take most of the time."""
DROP = """
modprobe sch_netem
[ ! -e /run/netem.pid ] || kill $(cat /run/netem.pid)
(while sleep 0.5; do tc qdisc show dev bt0 | grep -q 'loss {0:.0%}' || tc qdisc replace dev bt0 root netem loss {0:.0%}
done) >/dev/null 2>&1 </dev/null &
echo $! >/run/netem.pid
"""
"""The interface comes and goes with the connection."""


@pytest.fixture
def nodes(lab_of: Callable[..., RunningLab]) -> Nodes:
    return Nodes(lab_of("alice", "bob"))


@pytest.mark.parametrize(
    ("establish", "session", "loss", "durability"),
    [
        ("rfcomm", "rfcomm", 0.0, "every-message"),
        ("le_advert", "rfcomm", 0.3, "every-W"),
        ("l2cap", "l2cap", 0.0, "every-message"),
        ("l2cap", "l2cap", 0.1, "every-message"),
        ("l2cap", "l2cap", 0.3, "every-W"),
        ("ipsp", "ipsp", 0.0, "every-message"),
        ("ipsp", "ipsp", 0.1, "every-W"),
        ("ipsp", "ipsp", 0.3, "every-message"),
    ],
)
def test_a_thousand_messages_each_way(nodes: Nodes, establish: str, session: str, loss: float, durability: str) -> None:
    """On IPSP the link repeats what the air loses, so the losses are made above it. On RFCOMM a session sees none, so
    only the establishment is lossy."""
    if session == "ipsp":
        nodes.lab.run_on_all(DROP.format(loss))
    else:
        nodes.lab.set_loss(alice=loss, bob=loss)
    settings = f'durability = "{durability}"\n' + (IMPATIENT if loss and session != "rfcomm" else "")
    nodes.begin(establish, session, more_session=settings)
    nodes.wait_connected(seconds=240)
    assert_same_key(nodes)
    exchange(nodes, MESSAGES if loss == 0 or session != "rfcomm" else MESSAGES // 10, longest=LONGEST, seconds=1800)
    assert_same_key(nodes)
