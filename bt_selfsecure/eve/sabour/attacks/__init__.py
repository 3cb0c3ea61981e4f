"""What Eve tries against Sabour's handshake, sans-IO: in goes what she heard, out comes what she sends.

    stands between device and server   `middle.ManInTheMiddle`
    forged SIG_C, forged SIG_S         `forgery.FalseDevice`, `forgery.FalseServer`
    replayed M1 and M3                 `replay.Replay`
    invalid points                     `points.InvalidPoints`
    flood of M1                        `flood.Flood`

Each has `hear(data)`: one datagram, and those that she sends because of it; those that speak first have `begin()`.
docs/protocols/sabour.md tells what each yields, from runs.
"""
