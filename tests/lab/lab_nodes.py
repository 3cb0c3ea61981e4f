"""Real nodes on the machines of a lab, with what a test needs to run and to judge them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from running_lab import RunningLab

from bt_selfsecure.lab.client import LabError
from bt_selfsecure.node.where import SOCKET

TRAFFIC = Path(__file__).with_name("traffic.py")
BASE = """
[node]
name = "{name}"
adapter = "{adapter}"
log_level = "info"
accept = "{accept}"
[discovery]
advertise = {discover}
scan = {discover}
[establish]
bearer = "{establish}"
target_bits = 40.0
eve_loss_bound = 0.25
burst = 100
{more_establish}
[session]
bearer = "{session}"
{more_session}
"""
PEER = """
[[peer]]
name = "{name}"
address = "{address}"
"""
ASK = f"""/usr/bin/python3 -ISE -c '
import _socket
node = _socket.socket(_socket.AF_UNIX)
node.connect("{SOCKET}")
node.sendall(b"GET /v1/status HTTP/1.0\\r\\n\\r\\n")
while part := node.recv(65536).decode(): print(part, end="")'"""


def node_status(lab: RunningLab, name: str) -> dict[str, Any]:
    """What `bt-selfsecure status --json` prints there, at a tenth of the time: it is asked again and again. Without a
    peer where no node answers."""
    _, _, body = lab.run(name, ASK).out.replace("\r", "").partition("\n\n")
    status: dict[str, Any] = json.loads(body) if body else {"peers": []}
    return status


class Nodes:
    """A node on each machine, peers of each other unless `pairs` says who knows whom."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab

    def begin(
        self,
        establish: str = "rfcomm",
        session: str = "rfcomm",
        *,
        more_establish: str = "",
        more_session: str = "",
        discover: bool = False,
        anyone: bool = False,
        pairs: Callable[[str, str], bool] = lambda one, other: True,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """New configuration, no state, all started; `more` is added to a node's configuration."""
        self.end()
        status = self.lab.status()["machines"]
        for name in self.lab.names:
            text = BASE.format(
                name=name,
                adapter="hci0" if name == "alice" else status[name]["address"],
                establish=establish,
                session=session,
                more_establish=more_establish,
                more_session=more_session,
                discover=str(discover).lower(),
                accept="anyone" if anyone else "configured",
            )
            for other in self.lab.names:
                if other != name and pairs(name, other):
                    text += PEER.format(name=other, address=status[other]["address"])
            text += (more or {}).get(name, "")
            self.lab.run(
                name,
                f"rm -rf /var/lib/bt-selfsecure/* /lab/*.log /lab/enough; cat >/mnt/node.toml <<'END'\n{text}\nEND",
            ).check()
        for name in self.lab.names:
            self.start(name)

    def start(self, name: str, program: str = "bt-selfsecure") -> None:
        self.lab.run(
            name,
            f"setsid {program} node --config /mnt/node.toml >>/run/lab/node.log 2>&1 </dev/null &\n"
            "echo $! >/run/lab/node.pid",
        ).check()

    def kill(self, name: str) -> None:
        """The daemon, as the kernel would for want of memory."""
        self.lab.run(name, "kill -9 $(cat /run/lab/node.pid)").check()

    def end(self) -> None:
        """All daemons, as systemd would."""
        self.lab.run_on_all(
            "pid=$(cat /run/lab/node.pid 2>/dev/null) || exit 0\nkill $pid 2>/dev/null\n"
            "for _ in $(seq 100); do kill -0 $pid 2>/dev/null || break; sleep 0.1; done; rm -f /run/lab/node.pid"
        )

    def power_cycle(self, name: str) -> None:
        self.lab.do("kill", machine=name)
        self.lab.do("start", machine=name)
        self.start(name)

    def status(self, name: str) -> dict[str, Any]:
        return node_status(self.lab, name)

    def peer(self, name: str, of: str) -> dict[str, Any]:
        found: dict[str, Any] = next((peer for peer in self.status(name)["peers"] if peer["name"] == of), {})
        return found

    def wait_for(
        self, name: str, of: str, is_so: Callable[[dict[str, Any]], bool], seconds: float = 120
    ) -> dict[str, Any]:
        """The peer `of` as `name` sees it, once it is so. Raises `LabError` with what it was last."""
        until = time.monotonic() + seconds
        while True:
            peer = self.peer(name, of)
            if peer and is_so(peer):
                return peer
            if time.monotonic() > until:
                logs = f"{self.log(name)}\n--- {of}\n{self.log(of)}"
                raise LabError(f"{name} still sees {json.dumps(peer)} after {seconds} s\n{logs}")
            time.sleep(1)

    def wait_connected(self, *names: str, seconds: float = 120) -> None:
        for name in names or self.lab.names:
            for other in self.lab.names:
                if other != name:
                    self.wait_for(name, other, lambda peer: peer["state"] == "connected", seconds)

    def log(self, name: str) -> str:
        return self.lab.run(name, "tail -n 40 /run/lab/node.log").out

    def resident(self, name: str) -> tuple[int, int]:
        """KiB of memory: of the daemon, and of the processes that it has started."""
        pids = "pid=$(cat /run/lab/node.pid); echo $pid $(pgrep -P $pid)"
        shown = self.lab.run(name, f"for pid in $({pids}); do grep VmRSS /proc/$pid/status; done").check()
        daemon, *others = (int(line.split()[1]) for line in shown.splitlines())
        return daemon, sum(others)

    # --- traffic

    def traffic(
        self, name: str, peer: str, count: int | None, longest: int = 5000, seconds: float | None = 600
    ) -> None:
        """One end of it; without a count until `enough`. Raises `LabError` where it did not end well, or the machine
        went off."""
        self.lab.run(name, f"python {TRAFFIC} {peer} {longest} {'' if count is None else count}", seconds).check()

    def enough(self) -> None:
        """Ends traffic without a count."""
        for place in self.lab.shared.values():
            (place / "enough").touch()

    def judge(self, sender: str, receiver: str, count: int | None) -> int:
        """Nothing lost, nothing twice, nothing garbled, nothing out of order; how many there were."""
        sent = (self.lab.shared[sender] / f"send-{receiver}.log").read_text().splitlines()
        came = (self.lab.shared[receiver] / f"receive-{sender}.log").read_text().splitlines()
        taken = [tuple(map(int, line.split()[1:])) for line in sent if line.startswith("taken")]
        received = [tuple(map(int, line.split()[2:4])) for line in came]
        assert all(line.endswith("True") for line in came), "garbled"
        assert len(set(received)) == len(received), "twice"
        assert set(taken) <= set(received), f"lost: {sorted(set(taken) - set(received))[:10]}"
        assert [number for number, _ in taken] == list(range(len(taken) if count is None else count))
        assert received == sorted(received), "out of order"
        return len(taken)
