"""`bt-selfsecure link up --ipsp` between two machines: an IP interface for any program."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from link_up import begin, wait_for
from running_lab import RunningLab

pytestmark = pytest.mark.lab


def test_ping_goes_over_the_interface_which_comes_back_after_a_break_and_is_gone_at_the_end(
    lab_of: Callable[..., RunningLab],
) -> None:
    lab = lab_of("alice", "bob")
    begin(lab, "bob", "")
    begin(lab, "alice", lab.address("bob"))
    state = wait_for(lab, "alice", lambda state: bool(state["answered"]))
    assert state["connected"] == [lab.address("bob")]
    lab.run("alice", f"ping -c 3 -W 5 {state['answered'][0]}").check()

    lab.run("bob", "hciconfig hci0 down; sleep 2; hciconfig hci0 up").check()
    wait_for(lab, "alice", lambda state: not state["answered"])
    state = wait_for(lab, "alice", lambda state: bool(state["answered"]))
    lab.run("alice", f"ping -c 3 -W 5 {state['answered'][0]}").check()

    for name in ("alice", "bob"):
        gone = "pkill -INT -f 'link up'; for i in $(seq 30); do [ -s /tmp/link.status ] && break; sleep 1; done"
        assert lab.run(name, f"{gone}; cat /tmp/link.status").check().split()[-1] == "0"
        assert "bt0" not in lab.run(name, "ls /sys/class/net").check()


# --- CoAP over the interface ------------------------------------------------------------------------------------------

COAP = "bt-selfsecure coap"
SCHEMES = {
    "plain": "--scheme plain",
    "dtls": "--scheme dtls --key-file /root/devA.key",
    "dotp, dtls": "--scheme dotp --pair first",
    "dotp, object": "--scheme dotp --layer object --pair second",
    "sabour": "--scheme sabour",
    "sabour, paper": "--scheme sabour --profile paper",
}


def told_to(lab: RunningLab, name: str, file: str, text: str) -> None:
    lab.run(name, f"umask 077; cat >{file} <<'.'\n{text}\n.").check()


def begin_pairs_and_enrolments(lab: RunningLab) -> None:
    """Give both ends what `SCHEMES` need: alice is the client, bob the server."""
    roles = {"alice": "client", "bob": "server"}
    for key in ("devA", "first", "second"):
        made = lab.run("alice", f"{COAP} key /root/{key}.key --identity {key} && cat /root/{key}.key").check()
        told_to(lab, "bob", f"/root/{key}.key", made.strip())
        for name, role in roles.items() if key != "devA" else ():
            lab.run(name, f"{COAP} pair {key} --as {role} --key-file /root/{key}.key").check()
    for name, other in (("alice", "bob"), ("bob", "alice")):
        lab.run(other, f"{COAP} enrol {lab.run(name, f'{COAP} identity').check().strip()}").check()


def got(lab: RunningLab, where: str, options: str) -> str:
    """Serve at bob and ask at alice; return the sensor's readings."""
    background = "</dev/null >/tmp/serve.log 2>&1 & echo $! >/tmp/serve.pid"
    lab.run("bob", f"nohup {COAP} serve -v --bind {where} {options} {background}").check()
    up = "for i in $(seq 90); do grep serving /tmp/serve.log && exit; sleep 1; done; cat /tmp/serve.log; exit 1"
    uri = lab.run("bob", up).check().split()[1]
    asked = lab.run("alice", f"{COAP} get -v --timeout 60 {options} '{uri}/index'", timeout=180.0)
    said = lab.run("bob", "kill -INT $(cat /tmp/serve.pid); cat /tmp/serve.log").check()
    assert asked.status == 0, (asked.out, asked.err, said)
    return asked.out


@pytest.mark.long
def test_coap_goes_over_the_interface_under_each_scheme(lab_of: Callable[..., RunningLab]) -> None:
    """Also what takes several packets of Bluetooth, and with ten in a hundred of them lost."""
    lab = lab_of("alice", "bob")
    begin_pairs_and_enrolments(lab)
    begin(lab, "bob", "")
    begin(lab, "alice", lab.address("bob"))
    (bobs,) = wait_for(lab, "alice", lambda state: bool(state["answered"]))["answered"]
    for loss in (0.0, 0.1):
        lab.set_loss(alice=loss, bob=loss)
        readings = {name: json.loads(got(lab, bobs, options)) for name, options in SCHEMES.items()}
        assert {name: len(data["Data"]) for name, data in readings.items()} == dict.fromkeys(SCHEMES, 6)
