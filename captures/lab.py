"""Makes the captures lab-*.pcapng anew, on two virtual Pis, and the manifest with them: `python captures/lab.py`.

These are of Linux's own Bluetooth stack and two real nodes, so no two runs give the same bytes. It takes a few minutes.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "tests/lab")]

import make  # noqa: E402
from lab_nodes import Nodes  # noqa: E402
from running_lab import RunningLab  # noqa: E402

LINES = (("alice", "bob", "The sensor sends line 1."), ("bob", "alice", "The gateway sends line 1."))
SPY = "setsid bt-selfsecure eve capture monitor:hci0 --output /tmp/kept >/dev/null 2>&1 </dev/null & echo $! >/tmp/spy"


def main() -> None:
    """All of them."""
    with tempfile.TemporaryDirectory(prefix="btss-") as place:
        ear = HERE / "lab-ipsp.pcapng"
        lab = RunningLab(Path(place) / "lab", ("alice", "bob"), ("--tap", "ear", str(ear)))
        try:
            lab.set_loss(alice=0.1, bob=0.1, ear=0.05)
            talk(lab, "le_advert", "ipsp", "exchange_shares = false")
            kept = ear.read_bytes()
            for bearer, more in (("rfcomm", "exchange_shares = false"), ("l2cap", "")):
                lab.run("bob", f"rm -rf /tmp/kept; {SPY}; until [ -d /tmp/kept ]; do sleep 1; done", 300).check()
                talk(lab, bearer, bearer, more)
                packed = lab.run("bob", "kill $(cat /tmp/spy); sleep 3; base64 /tmp/kept/*.pcapng").check()
                (HERE / f"lab-{bearer}.pcapng").write_bytes(base64.b64decode(packed))
        finally:
            lab.end()
        ear.write_bytes(kept)
    make.make(HERE)


def talk(lab: RunningLab, establish: str, session: str, more: str) -> None:
    """A key, and a message each way."""
    nodes = Nodes(lab)
    nodes.begin(establish, session, more_establish=more)
    nodes.wait_connected(seconds=400)
    for name, other, line in LINES:
        lab.run(name, f"echo '{line}' | timeout 200 bt-selfsecure send {other} --port 3 --wait", 300).check()
    nodes.end()


if __name__ == "__main__":
    main()
