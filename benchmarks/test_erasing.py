"""What it costs a round that the journal's files are cleaned of dead keys and messages every W rounds.

The same rounds are committed with and without it, in turns, on a real disk, synced each (`every-message`). With
it the log has its room from the time before, which makes the rounds faster.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

from bt_selfsecure.node.config import SessionTable
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.noted import PeerRow

PEER = "B8:27:EB:00:00:01"
RECORD = "0123456789abcdef" * 90
"""As long as that of a session, 1.4 kB."""
W = SessionTable().checkpoint_rounds
BLOCKS = 12
DEARER_AT_MOST = 0.25


def block(journal: Journal, *, erase: bool) -> float:
    """Seconds a round, of W rounds at a receiver: its message and record come, the message is read."""
    began = perf_counter()
    for number in range(W):
        message = b"%06d " % number * 40
        row = journal.insert(PEER, "inbox", PEER, 0, 1.5, message)
        journal.keep(PEER, lambda number=number: PeerRow(f"{number:06d}{RECORD}", "{}", True))
        journal.commit(sync=True)
        journal.delete(PEER, "inbox", row)
    if erase:
        assert journal.erase(room=1.0) == ""
    return (perf_counter() - began) / W


def test_to_erase_every_w_rounds_costs_a_small_part_of_a_commit() -> None:
    times: dict[bool, list[float]] = {True: [], False: []}
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        contextlib.closing(Journal(Path(folder), sync_each=True)) as journal,
    ):
        for _ in range(BLOCKS):
            for erase in (False, True):
                journal.erase(room=float(erase))
                times[erase].append(block(journal, erase=erase))
    without, with_it = (statistics.median(times[erase]) for erase in (False, True))
    print(f"\na round's commit {1000 * without:.2f} ms, with erasing every {W} rounds {1000 * with_it:.2f} ms")
    print(f"{with_it / without - 1:+.1%}; each time {1000 * W * (with_it - without):.1f} ms")
    assert with_it / without - 1 <= DEARER_AT_MOST
