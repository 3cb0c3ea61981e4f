"""What SBI, SBR and SBS keep is read as it was written; what is damaged is told, and no key is shown."""

from __future__ import annotations

import pytest
from bootstrap_ends import CONTROLLER, IK, NAMES, NODE_ID, Ends

from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.bootstrap.config import Controller
from bt_selfsecure.protocols.bootstrap.records import (
    BootstrapRecordError,
    Installation,
    NodeRecord,
    Record,
    TidReservation,
    Transaction,
    read_record,
)


def in_the_middle() -> Ends:
    """Return ends of which each keeps as much as it ever does."""
    ends = Ends()
    ends.sbi.start(0.0)
    flight = ends.say("sbi")
    for name in ("sbr", "sbs", "sbr", "sbi", "sbr"):
        flight = ends.give(name, flight)
    return ends


RECORDS: list[Record] = [
    *(
        record
        for name in NAMES
        for record in in_the_middle().disks[name].values()
        if not isinstance(record, TidReservation)
    ),
    TidReservation(65),
    NodeRecord(NODE_ID, IK),
    Installation(NODE_ID, IK, ()),
    Transaction(bytes(8), NODE_ID, bytes(34), bytes(16), 0),
]  # type: ignore[list-item]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_read_as_it_was_written_and_a_damaged_one_is_told(record: Record) -> None:
    text = record.to_json()
    assert read_record(text) == record
    for damaged in ("", "[]", "{}", text[:-2], text.replace('"version":1', '"version":2'), text.replace(":", ":1", 1)):
        with pytest.raises(BootstrapRecordError) as told:
            read_record(damaged)
        assert IK.hex() not in str(told.value)


def test_records_show_no_key_in_their_repr() -> None:
    ends = Ends()
    ends.join()
    shown = repr([[*disk.values()] for disk in ends.disks.values()]) + repr(ends.told) + repr(CONTROLLER)
    for secret in (IK, ends.network_key, CONTROLLER.sk_cs):
        assert repr(secret)[2:-1] not in shown


def test_a_controller_has_an_id_and_a_key_of_the_right_size() -> None:
    with pytest.raises(UsageError, match="id of 8 bytes"):
        Controller(b"short", bytes(16))
