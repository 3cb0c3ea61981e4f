"""Each example runs as its head says, with real sockets and real daemons, and a page of it fits a screen or two."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bt_selfsecure.cli.main import main
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.node.two_nodes import ADDRESSES, OTHER, TwoNodes

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST_LINES = 80


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """One of the examples; what it says and what is wrong come out of one pipe. It is killed if it has not ended."""
    command = [sys.executable, str(EXAMPLES / words[0]), *words[1:]]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def say(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{words}\n")
    process.stdin.flush()


def rest(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Close its input; its exit status, and what it still says."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    told = process.stdout.read()
    return process.wait(30), told


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_has_at_most_80_lines_and_imports_nothing_private(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert set(re.findall(r"(?:from|import) (bt_selfsecure\S*)", text)) <= {"bt_selfsecure"}
    assert re.search(rf"^    .*(python|device run) examples/{path.name}", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["key_over_udp.py", "chat.py"])
def test_an_example_with_arguments_has_its_head_as_help(name: str) -> None:
    with running(name, "--help") as process:
        status, told = rest(process)
    assert status == 0
    assert f"python examples/{name}" in told
    assert max(map(len, told.splitlines())) < 80


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
def test_a_place_that_is_not_here_is_told_in_one_line(host: str) -> None:
    with running("key_over_udp.py", "bob", "--host", host) as bob:
        status, told = rest(bob)
    assert status == 1
    assert re.fullmatch(rf"no bob at {re.escape(host)}: .*\n", told)


def test_a_place_that_is_taken_is_told_in_one_line(loopback_host: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((loopback_host, 5731))
        with running("key_over_udp.py", "bob", "--host", loopback_host) as bob:
            status, told = rest(bob)
    assert (status, told) == (1, f"no bob at {loopback_host}: Address already in use; is one running there?\n")


def test_a_reader_that_has_enough_ends_the_planner_without_a_word() -> None:
    planner = shlex.join([sys.executable, "-u", str(EXAMPLES / "planner.py")])
    done = subprocess.run(["bash", "-c", f"{planner} | head -n 1"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Bob heard")
    assert done.stderr == ""


@pytest.mark.timeout(60)
def test_two_processes_come_to_one_key_over_udp_and_each_message_is_answered(loopback_host: str) -> None:
    """Alice comes too early, and twice: what she sends into the void is a loss as any."""
    with ExitStack() as stack:
        alice = stack.enter_context(
            running("key_over_udp.py", "alice", "pump on", "how warm?", "--host", loopback_host)
        )
        time.sleep(1)
        bob = stack.enter_context(running("key_over_udp.py", "bob", "--host", loopback_host))
        key = line(alice)
        assert re.fullmatch(r"a key from \d+ of 100 packets; compare \d{3} \d{3} \(\w+ \w+ \w+ \w+\)", key)
        assert line(bob) == key
        assert [line(bob), line(bob)] == ["pump on", "how warm?"]
        assert rest(alice) == (0, "got: pump on\ngot: how warm?\n")


@pytest.mark.timeout(120)
def test_a_chat_over_two_real_daemons_goes_both_ways_and_outlives_one_of_them(tmp_path: Path) -> None:
    nodes = TwoNodes(tmp_path, 0.05)
    with ExitStack() as stack:
        stack.callback(nodes.stop)
        for name in ADDRESSES:
            nodes.start(name)
        while not all(nodes.client(name).peers()[0]["state"] == "connected" for name in ADDRESSES):
            time.sleep(0.1)
        chats = {
            name: stack.enter_context(running("chat.py", OTHER[name], "--socket", str(tmp_path / f"{name}.sock")))
            for name in ADDRESSES
        }
        for name, chat in chats.items():
            assert re.fullmatch(rf"{OTHER[name]} is connected; key [0-9a-f-]+, 0 secret bits", line(chat))
            assert line(chat).startswith("On X25519 alone: losses are drawn by this program")
        for words in ("hello", "how are you?"):
            for name, chat in chats.items():
                say(chat, words)
                assert line(chats[OTHER[name]]) == f"{name}: {words}"
        nodes.kill("bob")
        say(chats["alice"], "are you back?")
        nodes.start("bob")
        assert line(chats["bob"]) == "alice: are you back?"
        assert rest(chats["alice"]) == (0, "")


def test_a_chat_without_a_node_says_so_in_one_line(tmp_path: Path) -> None:
    with running("chat.py", "bob", "--socket", str(tmp_path / "none.sock")) as chat:
        status, told = rest(chat)
    assert status == 1
    assert re.fullmatch(r"no node runs on \S+: .*\n", told)


def test_the_planner_says_what_the_command_plans(capsys: pytest.CaptureFixture[str]) -> None:
    with running("planner.py") as process:
        status, told = rest(process)
    assert status == 0
    heard, missed = re.findall(r"Bob heard (\d+) of 1000. Eve misses (\d+)", told)[0]
    measured = ["--measured", f"{missed}/{heard}", "--bob-loss", f"{1 - int(heard) / 1000:.3f}"]
    for bits, keep, send in re.findall(r"(\d+) bits: Bob keeps +(\d+), Alice sends +(\d+)", told):
        assert main(["plan", *measured, "--target-bits", bits, "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert (plan["received"], plan["packets"]) == (int(keep), int(send))
    assert len(re.findall("bits: Bob keeps", told)) == 4


# --- devices of an IoT network ----------------------------------------------------------------------------------------


@pytest.fixture
def office(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A gateway that runs, its configuration, and the folder of a device."""
    at = tmp_path / "acme"
    iotcrypto = [sys.executable, "-m", "bt_selfsecure.cli.main", "iotcrypto"]
    for words in (
        ("key", "--network", "office"),
        ("certificate", "--role", "party", "--name", "ACME"),
        ("prepare", str(tmp_path / "cellar"), "--role", "gateway", "--name", "cellar"),
        ("prepare", str(tmp_path / "boiler"), "--role", "device", "--name", "boiler"),
    ):
        subprocess.run([*iotcrypto, *words, "--state", str(at)], check=True, capture_output=True)
    config = tmp_path / "gateway.toml"
    (port,) = free_ports("0.0.0.0", 1)
    config.write_text(
        f'[gateway]\nstate = "{tmp_path}/cellar"\nsocket = "{tmp_path}/s"\nsocket_group = ""\n[devices]\n'
        f'listen = ["127.0.0.1"]\nnegotiation_port = 0\ntransmission_port = 0\nfetch_s = 1\n'
        f'advertisement_port = {port}\ninterfaces = ["lo"]\n'
    )
    command = [sys.executable, "-m", "bt_selfsecure.cli.main", "gateway", "run", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as gateway:
        try:
            yield config, tmp_path / "boiler"
        finally:
            gateway.terminate()


def gateway_says(config: Path, *words: str) -> str:
    """What a command of the gateway's prints, once it succeeds."""
    command = [sys.executable, "-m", "bt_selfsecure.cli.main", "gateway", *words, "--config", str(config)]
    until = time.monotonic() + 60
    while (done := subprocess.run(command, capture_output=True, text=True)).returncode:
        assert time.monotonic() < until, done.stderr
        time.sleep(0.5)
    return done.stdout


@contextmanager
def device(example: str, config: Path, state: Path, **environment: str) -> Iterator[None]:
    port = re.search(r"advertisement_port = (\d+)", config.read_text())
    assert port
    command = [sys.executable, "-m", "bt_selfsecure.cli.main", "device", "run", str(EXAMPLES / example)]
    command += ["--state", str(state), "--advertisement-port", port[1]]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | environment) as process:
        try:
            yield
        finally:
            process.terminate()


def test_a_laptop_is_a_device_of_an_iot_network(office: tuple[Path, Path]) -> None:
    config, state = office
    with device("laptop_device.py", config, state):
        assert re.search(r"^load \d", gateway_says(config, "ask", "boiler", "load"))
        assert gateway_says(config, "command", "boiler", "say", "hello") == "done: said\n"


def test_a_pi_tells_its_temperature_and_switches_its_led(office: tuple[Path, Path], tmp_path: Path) -> None:
    """With the files that a Pi 4 has, in a folder."""
    config, state = office
    led, zone = tmp_path / "sys/class/leds/ACT", tmp_path / "sys/class/thermal/thermal_zone0"
    for path, text in ((led / "trigger", "mmc0"), (led / "brightness", "0"), (zone / "temp", "51121")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with device("pi_device.py", config, state, PI_SYS=str(tmp_path / "sys")):
        assert gateway_says(config, "ask", "boiler", "temperature") == "temperature 51.1\n"
        assert gateway_says(config, "command", "boiler", "led", "true") == "done: the LED is on\n"
        assert (led / "brightness").read_text() == "1"
        assert gateway_says(config, "ask", "boiler", "led") == "led true\n"
        assert gateway_says(config, "command", "boiler", "led", "mmc0") == "done: the LED shows mmc0\n"
