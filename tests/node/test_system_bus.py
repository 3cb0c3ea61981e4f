"""A D-Bus system bus that is of no use, in every way: who needs it says one sentence with a remedy, in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from own_bus import own_bus

from bt_selfsecure.bearers import bluez, system_bus
from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.rfcomm import RfcommBearer
from bt_selfsecure.bearers.system_bus import SystemBusError, connect_system_bus
from bt_selfsecure.cli.main import main
from bt_selfsecure.node import advertiser
from bt_selfsecure.node.advertiser import Advertiser, Advertising
from bt_selfsecure.node.beacon import Word
from bt_selfsecure.node.discovery import Discovery, DiscoveryError
from bt_selfsecure.node.doctor import facts
from bt_selfsecure.protocols.haoxiao.frames import Profile

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

needs_bluetooth = pytest.mark.skipif(not hasattr(socket, "AF_BLUETOOTH"), reason="this Python lacks AF_BLUETOOTH")


async def turn_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As the host's bus does with what comes from another user namespace."""
    await reader.readexactly(1)
    while line := await reader.readline():
        writer.write(b"REJECTED EXTERNAL\r\n" if line.startswith(b"AUTH") else b"ERROR\r\n")


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hang_after_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Lets everybody in, and does no more."""
    await reader.readexactly(1)
    while line := await reader.readline():
        if line.startswith(b"BEGIN"):
            await reader.read()
            return
        writer.write(b"OK 1234deadbeef1234deadbeef1234dead\r\n" if line.startswith(b"AUTH") else b"AGREE_UNIX_FD\r\n")


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()


BUSES: dict[str, tuple[Serve | None, str]] = {
    "none": (None, "there is no D-Bus system bus (No such file or directory): sudo systemctl start dbus bluetooth"),
    "turns away": (turn_away, "turns this user away, as it does what runs in another user namespace: run outside"),
    "silent": (say_nothing, "the D-Bus system bus has not answered in 0.3 s: restart the computer"),
    "hangs later": (hang_after_hello, "the D-Bus system bus has not answered in 0.3 s: restart the computer"),
    "hangs up": (hang_up, "what answers as the D-Bus system bus does not speak with us: see journalctl"),
    "something else": (speak_http, "what answers as the D-Bus system bus does not speak with us: see journalctl"),
}


@pytest.fixture(params=BUSES)
def sentence(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What is to be said of the bus that is there meanwhile, on which nobody waits for long."""
    serve, sentence = BUSES[request.param]
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
    for module in (system_bus, bluez):
        monkeypatch.setattr(module, "ANSWER_S", 0.3)
    monkeypatch.setattr(advertiser, "START_S", 0.5)
    with served(serve, tmp_path / "bus") if serve else contextlib.nullcontext():
        yield sentence


@contextlib.contextmanager
def served(serve: Serve, place: Path) -> Iterator[None]:
    """By another thread, each connection until `serve` returns or all is over."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await serve(reader, writer)

    async def run() -> None:
        async with await asyncio.start_unix_server(connected, place):
            ready.set()
            await asyncio.to_thread(over.wait)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # in which what was closed ends

    ready, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(60)
    try:
        yield
    finally:
        over.set()
        thread.join()


def told(error: pytest.ExceptionInfo[Exception] | str) -> str:
    text = error if isinstance(error, str) else str(error.value)
    assert "\n" not in text
    assert "Error" not in text, "words of a program"
    assert ": " in text, "a remedy"
    return text


def test_whoever_connects_is_told_what_it_is_and_what_helps(sentence: str) -> None:
    with pytest.raises(SystemBusError) as error:
        asyncio.run(connect_system_bus())
    assert sentence in told(error)
    assert error.value.transient, "it may be mended while the node runs"


def test_a_scan_says_so(sentence: str) -> None:
    async def scan() -> None:
        await Discovery(adapter="hci0", name="alice", profile=Profile.HARDENED, profiles={}).scan(0.1)

    with pytest.raises(DiscoveryError) as error:
        asyncio.run(scan())
    assert sentence in told(error)


@needs_bluetooth
def test_rfcomm_by_sdp_says_so_and_that_a_channel_would_do(sentence: str) -> None:
    with pytest.raises(BearerError) as error:
        asyncio.run(RfcommBearer("hci0").listen())
    assert sentence in told(error)
    assert "name a channel, as in rfcomm#3" in str(error.value)


def test_the_advertiser_says_so_once_and_tries_again(
    sentence: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Advertiser("hci0", "alice", Profile.HARDENED)

    async def twice() -> list[Word]:
        return [await kept._by_bluez(), await kept._by_bluez()]

    tries = asyncio.run(twice())
    if tries == [Word.UNAVAILABLE] * 2:
        pytest.skip("there is no bluezero: pip install 'bt-selfsecure[discovery]'")
    assert tries == [Word.GONE] * 2
    assert kept.state is Advertising.OFF
    assert sentence in told(kept.trouble)
    assert [record.getMessage() for record in caplog.records if record.name == advertiser.__name__] == [kept.trouble]


def test_the_doctor_finds_it_and_goes_on(sentence: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 1
    out, err = capfd.readouterr()
    assert err == ""
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert checks["D-Bus"]["verdict"] == "failure"
    assert sentence.partition(": ")[0][5:] in checks["D-Bus"]["finding"]
    assert checks["D-Bus"]["remedy"]
    assert sentence in checks["Advertising"]["finding"]


OWN_THE_NAME = """
import asyncio, os, signal
from dbus_fast.aio import MessageBus
async def main():
    bus = await MessageBus().connect()
    await bus.request_name("org.bluez")
    print("owned", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
asyncio.run(main())
"""


@pytest.fixture
def hung_bluetoothd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It has its name on a real bus, and does not turn."""
    with (
        own_bus(tmp_path, monkeypatch),
        subprocess.Popen([sys.executable, "-c", OWN_THE_NAME], stdout=subprocess.PIPE) as owner,
    ):
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"owned\n"
        yield
        owner.kill()


@needs_bluetooth
def test_a_bluetoothd_that_hangs_is_named_and_not_waited_for(
    hung_bluetoothd: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (bluez, facts):
        monkeypatch.setattr(module, "ANSWER_S", 0.3)
    with pytest.raises(BearerError, match=r"^bluetoothd hangs: sudo systemctl restart bluetooth; or name a channel"):
        asyncio.run(RfcommBearer("hci0").listen())
    with pytest.raises(facts.BluezAbsent, match=r"bluetoothd did not answer in 0\.3 s: sudo"):
        asyncio.run(facts.ask_bluez("hci0", None))
