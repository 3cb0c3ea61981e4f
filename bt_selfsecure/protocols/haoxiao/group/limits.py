"""Every number of a group, each with its unit and one line of reason."""

from __future__ import annotations

from typing import Final

GROUP_ID_BYTES: Final = 8
SECRET_BYTES: Final = 32  # given to each member in its own session
MAX_FRAGMENTS: Final = 15  # index and count have 4 bits each, and the parity follows the last
MAX_MESSAGE_BYTES: Final = 200  # more fragments are seldom whole: longer messages go by the sessions alone
MAX_NAME_BYTES: Final = 32
MAX_MEMBERS: Final = 32
MAX_ROUNDS: Final = 2**47  # as in a session
MAX_EPOCHS: Final = 2**32 - 1

MAX_LEAP: Final = 2**16  # epochs that an owner believes to have forgotten, if a member says so

WINDOW: Final = 32  # rounds that not all members are assured of; each is for `REPAIR_S` at most
AHEAD: Final = 33  # rounds from the next one on of which a member keeps fragments: as many as a report names
REPORT_ROUNDS: Final = 16  # received, that a member acknowledges at once
REPORT_SPAN: Final = 24  # rounds from the oldest unacknowledged on, of which it may hold some: so many it reports, too
MAX_EVENTS: Final = 256  # unread ones: beyond that, what strangers can cause is counted and no longer told

REPAIR_S: Final = 30.0  # until a round that a member has not acknowledged is given to its session
REPAIR_SOON_S: Final = 9.0  # the same, where the member would have acknowledged it soon
RESTART_S: Final = 6.0  # the same after a start of the owner, who does not know what had left
REPORT_S: Final = 24.0  # until a member acknowledges what it has: a report costs what a message does
REPORT_SOON_S: Final = 3.0  # the same, where it has acknowledged nothing for `REPORT_S`: so it costs no more of them
LACK_S: Final = 3.0  # until it tells what it lacks: well after a broadcast is over, and for a few of a stream at a time
STEADY_S: Final = 10.0  # that a member must hear again before it says so: each change costs a report
GAP_S: Final = 0.75  # from the first fragment of a round until it is not whole for good: 16 take half a second
STALE_S: Final = 2.0  # after which fragments of one round are none of the same broadcast
EPOCH_S: Final = 10.0  # from one epoch to the next that a member asks for
