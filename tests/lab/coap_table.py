"""`bench coap` between two machines, over the interface that `link up --ipsp` makes."""

from __future__ import annotations

import json
import shutil
from typing import Any

from link_up import begin, wait_for
from running_lab import RunningLab

from bt_selfsecure.bench.coap.ways import make_keys

WITHIN_S = 900.0


def table_over_ipsp(lab: RunningLab, gets: int) -> dict[str, Any]:
    """Serve all ways at bob, ask at alice; return the rows by name, as `bench coap --json` has them."""
    first, *others = (lab.shared[name] / "keys" for name in lab.names)
    first.mkdir(mode=0o700)
    make_keys(first)
    for other in others:
        shutil.copytree(first, other)
    lab.run_on_all("rm -rf /root/keys && cp -a /lab/keys /root/keys")
    begin(lab, "bob", "")
    begin(lab, "alice", lab.address("bob"))
    (where,) = wait_for(lab, "alice", lambda state: bool(state["answered"]))["answered"]
    bench = "bt-selfsecure bench coap --keys /root/keys"
    lab.run("bob", f"nohup {bench} --serve {where} </dev/null >/tmp/bench.log 2>&1 & echo $! >/tmp/bench.pid").check()
    try:
        done = lab.run("alice", f"{bench} --at '{where}' --gets {gets} --json", timeout=WITHIN_S)
    finally:
        said = lab.run("bob", "kill -INT $(cat /tmp/bench.pid); cat /tmp/bench.log")
    assert done.status == 0, (done.err, said)
    ((_, rows),) = json.loads(done.out)["tables"].items()
    return {row["name"]: row for row in rows}
