"""WireGuard's kernel module between two machines while its preshared key changes, and where the peer is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from lab_nodes import Nodes
from running_lab import RunningLab
from wireguard_pair import WireGuardOnMachines, absent, until

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(absent()), reason=absent())]


@pytest.fixture
def pair(lab_of: Callable[..., RunningLab]) -> Iterator[WireGuardOnMachines]:
    nodes = Nodes(lab_of("alice", "bob"))
    nodes.begin("rfcomm", "rfcomm")
    pair = WireGuardOnMachines(nodes)
    try:
        nodes.wait_connected()
        yield pair
    finally:
        pair.end()


@pytest.mark.parametrize(
    ("seconds", "rotate_s"), [(6.0, 3.0), pytest.param(300.0, 10.0, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_no_ping_is_lost_while_the_preshared_key_changes_and_none_is_answered_where_the_peer_is_lost(
    pair: WireGuardOnMachines, seconds: float, rotate_s: float
) -> None:
    pair.watch("bob")
    pair.watch("alice", "--rotate", f"{rotate_s}", "--lost-after", "3")
    until(pair.share_a_key)
    sent, answered = pair.ping(seconds)
    assert sent == answered
    seen = {name: pair.generations(name) for name in ("bob", "alice")}
    assert len(seen["alice"]) > seconds / rotate_s * 0.7, "it did not rotate"
    assert set(seen["bob"]) <= set(seen["alice"])
    assert len(set(seen["alice"]) - set(seen["bob"])) <= 1, "but for the newest, perhaps"

    pair.nodes.kill("bob")
    until(lambda: pair.told("alice")[-1]["event"] == "lost")
    assert not pair.share_a_key()
    pair.forget_handshake()
    assert pair.ping(1.0, patience_s=1)[1] == 0, "the random key lets nobody in"
    pair.nodes.start("bob")
    until(lambda: pair.told("alice")[-1]["event"] == "key" and pair.share_a_key())
    until(lambda: pair.ping(1.0, patience_s=1)[1] > 0)
