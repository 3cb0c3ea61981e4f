"""The local API's description is made from its types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.api_types import LevelQuery, NoQuery, ReceiveQuery, ScanQuery, SendQuery
from bt_selfsecure.node.query import read_query

ROOT = Path(__file__).parents[2]
MAKER = ROOT / "docs/openapi.py"


def test_the_description_that_is_served_is_the_one_that_the_types_make() -> None:
    """If this fails: `python docs/openapi.py`, and read what has changed."""
    program = f"import runpy; print(runpy.run_path({str(MAKER)!r})['text'](), end='')"
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(made) == json.loads((ROOT / "bt_selfsecure/node/openapi.json").read_text())


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
