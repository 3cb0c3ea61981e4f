"""Writes the vectors of this directory: `python make.py`. The same code gives the same bytes everywhere.

All randomness is SHA-256 of a name and a counter (the tests' bootstrap_ends.py); nothing depends on the clock or the
machine. README.md beside this file describes the fields.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from bootstrap_ends import CONTROLLER, IK, NODE_ID, NOON, Ends, PaperEnds, counted  # noqa: E402

from bt_selfsecure.protocols.bootstrap.keys import authentication_key, session_key  # noqa: E402

PROVENANCE = "Made by make.py of bt_selfsecure from its own code; docs/protocols/bootstrap.md is the specification."


def join(flights: list[bytes], **more: bytes) -> dict[str, str]:
    named = {f"f{number}": data for number, data in enumerate(flights, 1)}
    return {name: value.hex() for name, value in (named | more).items()}


def document() -> str:
    """Return bootstrap.json."""
    ends, paper = Ends("vectors"), PaperEnds("vectors")
    given = {
        "id": NODE_ID.hex(),
        "id_c": CONTROLLER.controller_id.hex(),
        "ik": IK.hex(),
        "sk_cs": CONTROLLER.sk_cs.hex(),
        "ts": int(NOON),
    }
    first, first_psk = ends.join(), ends.network_key
    again, again_psk = ends.join(), ends.network_key
    draw = counted("vectors sbr 1")
    rn_c = [draw(16), draw(16)]
    draw_i = counted("vectors paper sbi")
    draw_c = counted("vectors paper sbr")
    paper_flights = paper.join()
    made = {
        "provenance": PROVENANCE,
        "given": given,
        "hardened": [
            join(
                flights,
                rn_c=number,
                psk=psk,
                sk_i=session_key(psk),
                authentication_key=authentication_key(psk),
            )
            for flights, number, psk in ((first, rn_c[0], first_psk), (again, rn_c[1], again_psk))
        ],
        "paper": join(paper_flights, rn_i=draw_i(16), rn_c=draw_c(16), psk=paper.sbi.key),
    }
    return json.dumps(made, indent=1) + "\n"


if __name__ == "__main__":
    (HERE / "bootstrap.json").write_text(document(), encoding="utf-8")
