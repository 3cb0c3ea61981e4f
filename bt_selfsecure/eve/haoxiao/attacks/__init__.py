"""What Eve tries, one small class an attack, all sans-IO: in goes what she heard, out comes what she sends.

    passive listening                `eve.knowledge.Knowledge`
    colluding                        `eve.knowledge.merged`
    repair of damaged copies         `guessing.Repair`
    brute force of short messages    `guessing.BruteForce`
    blacklist steering (row 5)       `steering.BlacklistSteering`
    man in the middle (row 7)        `middle.ManInTheMiddle`
    replay of an establishment       `replay.Replay`
    replay and reflection            `replay.Reflection`
    request flood (row 16)           `flood.RequestFlood`
    selective jamming                `air.models.Jammed`: it is the air that changes
    stolen K_i                       `theft.StolenKey`
    stolen K_i, and she speaks       `speaking.SpeakingThief`
    forged burst packets             `forging.Forgery`

Those that send have `hear(data)`: one datagram from her radio, and the datagrams that she sends because of it.
docs/attacks.md tells what each needs and what it yields, from runs.
"""

from __future__ import annotations

from bt_selfsecure.eve.haoxiao.attacks.steering import BlacklistSteering
from bt_selfsecure.eve.haoxiao.attacks.theft import StolenKey

__all__ = ["BlacklistSteering", "StolenKey"]
