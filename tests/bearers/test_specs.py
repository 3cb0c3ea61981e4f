"""Bearers by name, and what they refuse before any radio is touched."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.bearers.base import Bearer, BearerError
from bt_selfsecure.bearers.drawn import Faults
from bt_selfsecure.bearers.l2cap import L2capBearer
from bt_selfsecure.bearers.le_advert import LeAdvertBearer
from bt_selfsecure.bearers.limits import PSM
from bt_selfsecure.bearers.places import UdpPlaces, parse_place, shown_place
from bt_selfsecure.bearers.rfcomm import RfcommBearer
from bt_selfsecure.bearers.specs import NAMES, BearerSpec, open_bearer, parse_spec
from bt_selfsecure.errors import BtSelfSecureError, UsageError


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("rfcomm", BearerSpec("rfcomm")),
        ("rfcomm#3", BearerSpec("rfcomm", number=3)),
        ("rfcomm#0", BearerSpec("rfcomm")),
        ("l2cap#4097@hci1", BearerSpec("l2cap", number=4097, adapter="hci1")),
        ("le_advert", BearerSpec("le_advert")),
        ("le_advert@hci12", BearerSpec("le_advert", adapter="hci12")),
        ("ipsp:ba:27:eb:00:00:02", BearerSpec("ipsp", "BA:27:EB:00:00:02")),
        ("ipsp:ba-27-eb-00-00-02", BearerSpec("ipsp", "BA:27:EB:00:00:02")),
        ("l2cap:BA:27:EB:00:00:02#4099@hci0", BearerSpec("l2cap", "BA:27:EB:00:00:02", 4099)),
        ("udp", BearerSpec("udp")),
        ("faults:loss=0.1;udp", BearerSpec("udp", faults=Faults(loss=0.1))),
        ("faults:duplicate=.25,loss=0;udp", BearerSpec("udp", faults=Faults(duplicate=0.25))),
    ],
)
def test_every_form_is_understood(text: str, spec: BearerSpec) -> None:
    assert parse_spec(text) == spec


@pytest.mark.parametrize(
    "text",
    ["", "RFCOMM", "rfcomm ", "rfcomm#", "rfcomm#x", "rfcomm#-1", "rfcomm#123456", "rfcomm@", "rfcomm@usb0",
     "rfcomm@hci", "rfcomm@hci0#3", "rfcomm:", "rfcomm:BA:27:EB:00:00", "rfcomm:BA:27:EB:00:00:0G",
     "rfcomm:BA-27-EB-00-00", "rfcomm#3:BA:27:EB:00:00:02", "rfcomm\n", "rfcomm/3"],
)  # fmt: skip
def test_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no bearer: write NAME\[:PEER\]\[#NUMBER\]\[@hciN\], as in") as refused:
        parse_spec(text)
    assert "\n" not in str(refused.value)


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=f"no bearer 'carrier_pigeon': take {', '.join(NAMES)}"):
        parse_spec("carrier_pigeon")


@pytest.mark.parametrize("number", [0, 1, 99999])
def test_a_number_where_none_belongs_is_refused(number: int) -> None:
    with pytest.raises(UsageError, match=f"le_advert takes no number: leave #{number} out"):
        parse_spec(f"le_advert#{number}")


@pytest.mark.parametrize(
    ("text", "words"),
    [("faults:loss=1;udp", "'loss=1' is no fault"), ("faults:;udp", "'' is no fault: write loss and duplicate"),
     ("faults:loss=0.1,loss=0.1;udp", "no fault"), ("faults:loss=nan;udp", "no fault"), ("faults:delay=0.1;udp", "no"),
     ("faults:loss=-0.1;udp", "no fault"), ("faults:loss=1e-3;udp", "no fault"), ("faults:loss=0.1", "is no bearer"),
     ("faults:loss=0.1;", "is no bearer"), ("faults:loss=0.1;rfcomm", "before udp, and not before 'rfcomm'"),
     ("faults:loss=0.1;faults:loss=0.1;udp", "before udp, and not before"), ("udp#5700", "takes no number")],
)  # fmt: skip
def test_faults_that_can_not_be_drawn_are_refused_with_what_can(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_spec(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:5700", ("127.0.0.1", 5700)),
        ("[::1]:65535", ("::1", 65535)),
        ("[FE80:0::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_a_place_is_an_address_and_a_port(text: str, place: tuple[str, int]) -> None:
    assert parse_place(text) == place
    assert parse_place(shown_place(place)) == place


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.256:1", "::1:5700",
             "[127.0.0.1]:1", "localhost:5700", "[]:1", ":1", "[::1]5700", "127.0.0.1:5700 ", "127.0.0.1:5700\n",
             "[fe80::1%\n]:5", "127.0.0.1:١"],
)  # fmt: skip
def test_another_place_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"write it as 127.0.0.1:5700 or \[::1\]:5700") as refused:
        parse_place(text)
    assert "\n" not in str(refused.value)


PLACES = UdpPlaces("BA:27:EB:00:00:01", "127.0.0.1:5700")


@given(
    st.text(max_size=40)
    | st.from_regex(r"(rfcomm|l2cap|ipsp|le_advert|udp)(:[0-9a-f:]{0,17})?(#\d{0,6})?(@hci\d{0,6})?")
    | st.from_regex(r"faults:((loss|duplicate)=[0-9.]{0,4},?)*;(udp)?")
)
def test_no_text_raises_anything_but_what_a_person_reads(text: str) -> None:
    try:
        assert open_bearer(text, udp=PLACES).name == parse_spec(text).name
    except BtSelfSecureError as refused:
        said = str(refused)
        assert "\n" not in said


@pytest.mark.parametrize("name", NAMES)
def test_each_name_opens_its_bearer_and_says_what_it_shows(name: str) -> None:
    bearer = open_bearer(name, udp=PLACES)
    assert bearer.name == name
    assert bearer.traits.losses_visible == (name in ("l2cap", "le_advert", "udp"))
    assert bearer.traits.broadcast == (name == "le_advert")
    assert bearer.traits.ordered == (name != "udp")
    asyncio.run(bearer.close())


@pytest.mark.parametrize("channel", [-1, 31, 99999])
def test_rfcomm_has_channels_1_to_30(channel: int) -> None:
    with pytest.raises(BearerError, match=f"no RFCOMM channel {channel}: take 1 to 30"):
        RfcommBearer("hci0", channel)
    for good in (0, 1, 30):
        RfcommBearer("hci0", good)


@pytest.mark.parametrize("psm", [0, 1, 0x0FFF, 0x1000, 0x1101, 0x1002, 0x10001])
def test_l2cap_takes_only_dynamic_psms(psm: int) -> None:
    with pytest.raises(BearerError, match=f"PSM {psm} can't be used: take one from 4097 on, odd, its upper octet even"):
        L2capBearer("hci0", psm)
    for good in (PSM, 0x1003, 0x1201, 0xFEFF):
        L2capBearer("hci0", good)


@pytest.mark.parametrize("slots", [-1, 0, 0x0800])
def test_a_flush_timeout_has_1_to_2047_slots(slots: int) -> None:
    with pytest.raises(BearerError, match=f"{slots} slots is out of range: take 1 to 2047"):
        L2capBearer("hci0", PSM, flush_timeout_slots=slots)
    for good in (1, 2, 0x07FF):
        open_bearer("l2cap", flush_timeout_slots=good)


def test_a_flush_timeout_of_zero_is_not_taken_for_the_default() -> None:
    with pytest.raises(BearerError, match="0 slots is out of range"):
        open_bearer("l2cap", flush_timeout_slots=0)


def test_nobody_waits_for_connections_of_a_broadcast() -> None:
    with pytest.raises(UsageError, match="connect to each peer that is to be heard"):
        asyncio.run(LeAdvertBearer("hci0").listen())


@pytest.mark.parametrize("name", sorted({*NAMES} - {"udp"}))
def test_an_adapter_that_can_not_be_is_refused_in_words(name: str) -> None:
    """Where there is no Bluetooth, as in a container, that is said instead."""

    async def main(bearer: Bearer) -> None:
        try:
            await bearer.connect("BA:27:EB:00:00:02")
        finally:
            await bearer.close()

    with pytest.raises(BearerError) as refused:
        asyncio.run(main(open_bearer(f"{name}@hci65535")))
    assert re.search(r": .*(take|see|run|modprobe|start|bluetoothctl)", str(refused.value))
