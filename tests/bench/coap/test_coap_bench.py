"""The CoAP bench measures what it says, and shows it as text, JSON and pictures."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bt_selfsecure.bench.coap.figures import POLICIES, figures
from bt_selfsecure.bench.coap.report import CoapBench, draw, lines, ratios
from bt_selfsecure.bench.coap.table import LOOPBACK, BenchError, RelayProcess, Row, SlowLink, started, table
from bt_selfsecure.bench.coap.ways import all_ways, make_keys
from bt_selfsecure.cli.main import main
from bt_selfsecure.coap.resources import SENSOR_BYTES

OURS = 8
FASTEST = Row("Sabour, hardened", (0.01, 0.03), (600, 600), 6)


@pytest.fixture(scope="module")
def measured() -> CoapBench:
    points = [*figures(100, "dtls"), *figures(100, "object")]
    return CoapBench(points, {link.name: asyncio.run(table(2, link)) for link in (LOOPBACK, SlowLink(1000.0, 1.0))})


def test_every_policy_has_its_point_in_each_layer(measured: CoapBench) -> None:
    assert [(point.layer, point.policy) for point in measured.points] == [
        (layer, policy) for layer in ("dtls", "object") for policy in POLICIES
    ]
    assert all(point.seconds > 0 and point.of_total < 100 for point in measured.points)


def test_each_row_has_the_bytes_of_its_scheme(measured: CoapBench) -> None:
    rows = measured.tables["loopback"]
    by_name = {row.name: row for row in rows}
    edhoc = importlib.util.find_spec("lakers") is not None
    assert len(by_name) == OURS + edhoc + (5 if shutil.which("coap-server-openssl") else 0)
    assert by_name["CoAP"].datagrams == 2
    assert by_name["D-OTP, layer object"].bytes == by_name["CoAP"].bytes + 2 * 20
    assert by_name["Sabour, hardened"].datagrams == 6
    # M1 to M4 are 204 bytes; each has CoAP's header and code, two a path and a payload marker
    assert by_name["Sabour, hardened"].bytes < 204 + 4 * 20 + by_name["CoAP"].bytes + 50
    assert all(row.bytes > SENSOR_BYTES for row in rows)


def test_text_json_and_pictures_have_all_of_it(measured: CoapBench, tmp_path: Path) -> None:
    text = "\n".join(lines(measured))
    assert max(map(len, text.splitlines())) <= 120
    for row in measured.tables["loopback"]:
        assert row.name in text
    shown = json.loads(json.dumps(measured.to_json()))
    assert len(shown["figures"]) == len(measured.points)
    assert shown["tables"]["loopback"][0]["name"] == "CoAP"
    pytest.importorskip("matplotlib")
    pictures = draw(measured, tmp_path)
    assert [path.name for path in pictures] == [
        *(f"coap-figure-{number}.svg" for number in (13, 14, 15, 16)),
        "coap-table-1.svg",
        "coap-table-1-slow-link.svg",
    ]
    assert all(path.read_text().startswith("<svg") for path in pictures)


def test_shares_are_of_the_median_and_of_each_library() -> None:
    rows = [FASTEST, Row("CoAPS, DTLS-ECDHE (libcoap, openssl)", (0.04, 0.04), (3000, 3000), 8), FASTEST]
    assert ratios(rows) == [("CoAPS, DTLS-ECDHE (libcoap, openssl)", 0.5, 0.25, 0.2)]
    assert ratios(rows[1:2]) == []


def test_a_relay_without_a_response_says_so() -> None:
    relay = RelayProcess(LOOPBACK, "127.0.0.1", [9])
    try:
        with pytest.raises(BenchError, match="no response came"):
            relay.passed()
    finally:
        relay.close()


def until_it_raises(check: Callable[[], None]) -> None:
    while True:
        check()
        time.sleep(0.1)


def test_a_server_that_ended_is_told_with_its_last_word(tmp_path: Path, loopback_host: str) -> None:
    make_keys(tmp_path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((loopback_host, 0))
        port = taken.getsockname()[1]
        why = rf"the server of CoAP ended: .* UDP port {port} free\? Its last word: .*Address already in use"
        with started(all_ways(tmp_path)[:1], loopback_host, [port]) as check, pytest.raises(BenchError, match=why):
            until_it_raises(check)


def test_a_folder_that_is_not_there_is_told_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "coap", "--plots", "/nowhere/at/all"]) == 2
    assert re.match(r"bt-selfsecure: there is no folder .*\n$", capsys.readouterr().err)


def test_the_figures_have_the_papers_numbers_of_sessions_and_the_one_that_was_asked_for() -> None:
    points = figures(130, "object", policies=("hardened 256",))
    assert [point.sessions for point in points] == [100, 130]


def test_the_table_is_measured_with_servers_of_another_program_that_has_the_same_keys(
    tmp_path: Path, loopback_host: str
) -> None:
    bench = [sys.executable, "-m", "bt_selfsecure", "bench", "coap", "--keys", str(tmp_path / "keys")]
    with subprocess.Popen([*bench, "--serve", loopback_host], stdout=subprocess.PIPE, text=True) as servers:
        try:
            assert servers.stdout is not None
            assert servers.stdout.readline().startswith("serving ")
            done = subprocess.run(
                [*bench, "--at", loopback_host, "--gets", "1", "--json"], capture_output=True, text=True, check=False
            )
        finally:
            servers.send_signal(signal.SIGINT)
    assert done.returncode == 0, done.stderr
    ((where, rows),) = json.loads(done.stdout)["tables"].items()
    assert where == f"servers at {loopback_host}"
    assert len(rows) >= OURS
    assert servers.wait() == 130


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--at 127.0.0.1", "--keys DIR is for --serve and --at"),
        ("--keys x", "--keys DIR is for --serve and --at"),
        ("--at 127.0.0.1 --keys /nowhere", "there is no folder /nowhere"),
        ("--serve 127.0.0.1 --keys /nowhere/at/all", "can't make /nowhere/at/all"),
    ],
)
def test_servers_elsewhere_need_the_same_keys(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "coap", *words.split()]) == 2
    assert said in capsys.readouterr().err


def test_an_address_of_another_computer_is_not_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "coap", "--keys", str(tmp_path / "keys"), "--serve", "192.0.2.1"]) == 2
    assert "can't serve at 192.0.2.1" in capsys.readouterr().err
