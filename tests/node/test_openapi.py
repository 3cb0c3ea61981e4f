"""The queries of the local API, by their types; that its description is made from these is a test in tests/docs."""

from __future__ import annotations

import pytest

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.api_operations import LevelQuery, NoQuery, ReceiveQuery, ScanQuery, SendQuery
from bt_selfsecure.node.query import read_query


def test_a_query_is_what_its_dataclass_says() -> None:
    assert read_query({}, SendQuery) == SendQuery(0, "durable", 60.0)
    assert read_query({"port": "63", "until": "acknowledged", "timeout": "0.5"}, SendQuery) == SendQuery(
        63, "acknowledged", 0.5
    )
    assert read_query({"peer": "bob", "follow": "true"}, ReceiveQuery) == ReceiveQuery("bob", 0, True)
    assert read_query({"level": "debug"}, LevelQuery) == LevelQuery("debug")


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        ({"port": "64"}, SendQuery, "port is '64' and must be a whole number, 0 to 63"),
        ({"port": "-0"}, SendQuery, "port is '-0' and must be a whole number, 0 to 63"),
        ({"port": "٣"}, SendQuery, "port is '٣' and must be a whole number, 0 to 63"),
        ({"seconds": "61"}, ScanQuery, "seconds is '61' and must be seconds, 1 to 60"),
        ({"seconds": "nan"}, ScanQuery, "seconds is 'nan' and must be seconds, 1 to 60"),
        ({"follow": "yes"}, ReceiveQuery, "follow is 'yes' and must be one of true, false"),
        ({"x": "1"}, NoQuery, "'x' can't be used here, or not twice: the parameters are none"),
        ({"x": "1"}, ScanQuery, "'x' can't be used here, or not twice: the parameters are seconds"),
        ({}, LevelQuery, "level is missing: give one of debug, info, warning, error"),
    ],
)
def test_a_query_that_is_wrong_is_refused_by_name(given: dict[str, str], kind: type, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_query(given, kind)
    assert str(refused.value) == says
