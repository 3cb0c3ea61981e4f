"""Server, controller and node as processes on loopback: who joins, who does not, and what is left of kill -9."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from bootstrap_processes import LIVE_S, Home, LossyRelay, Served, command, ended, run

from bt_selfsecure.bootstrap.store import BootstrapStore
from bt_selfsecure.oob.qr import CodeKind, code_of, read_code


def status(folder: Path) -> dict[str, list[dict[str, object]]]:
    told: dict[str, list[dict[str, object]]] = json.loads(run("status", "--json", "--state", folder))
    return told


def test_a_node_joins_by_one_process_and_both_write_the_same_key_for_their_peers(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with ended(served := home.both()):
        flight1 = home.flight1()
        flight4 = home.flight4(flight1)
        told = run("join", "--state", home.node, "--config", tmp_path / "lamp/node.toml", flight4)
        assert "lamp has joined home" in told
        run("admit", "--state", home.server, "--config", tmp_path / "hall/node.toml", flight1)
        keys = [(tmp_path / name).read_bytes() for name in ("lamp/keys/attic", "hall/keys/lamp")]
        assert keys[0] == keys[1]
        assert len(keys[0]) == 32
        node, network = home.keys()
        assert node == {network}
        assert status(home.server)["nodes"][0]["state"] == "joined"
        assert status(home.node)["networks"][0] == {
            "network": "home", "node": "lamp", "state": "joined", "controller": "attic",
            "id": status(home.server)["nodes"][0]["id"],
        }  # fmt: skip
        assert served.end() == (0, "")


def test_server_and_controller_are_two_processes_with_udp_between_them(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with ended(home.server_alone(), home.controller_alone()):
        home.join(home.flight4(home.flight1(), of=home.attic))
        node, network = home.keys()
        assert node == {network}


def test_admit_waits_until_the_node_has_proved_itself(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with ended(home.both()):
        waiting = subprocess.Popen(
            command("admit", "--no-peer", "--state", home.server, home.flight1()), stdout=subprocess.PIPE, text=True
        )
        assert waiting.stdout is not None
        home.join(waiting.stdout.readline().strip())
        assert waiting.wait(LIVE_S) == 0
        waiting.communicate()


def test_codes_are_read_from_pictures_and_a_typo_is_told(tmp_path: Path) -> None:
    pytest.importorskip("zxingcpp")
    image = pytest.importorskip("PIL.Image")
    home = Home(tmp_path)
    with ended(home.both()):
        run("join", "--show", "--state", home.node, "--write", tmp_path / "f1.png")
        pictures = "--file", tmp_path / "f1.png", "--write", tmp_path / "4.png"
        run("admit", "--no-wait", "--state", home.server, *pictures)
        assert "has joined" in run("join", "--no-peer", "--state", home.node, "--file", tmp_path / "4.png")
    code = home.flight1("--anew")
    for wrong, why in (
        (code[:-1], "damaged near its letter"),
        (code[:-2], "a letter is wrong or missing"),
        ("BTSS1:", "of something else"),
        ("hello", "a code begins with BTSS1:"),
        (code_of(CodeKind.SABOUR_DEVICE, bytes(40)), "of something else"),
    ):
        assert why in run("admit", "--state", home.server, wrong, status=2)
    assert "the code of the other side" in run("join", "--state", home.node, code, status=2)
    image.new("L", (200, 200), 255).save(tmp_path / "empty.png")
    for file, why in ((__file__, "it is no picture"), (tmp_path / "empty.png", "no code of ours")):
        assert why in run("admit", "--state", home.server, "--file", file, status=2)


def test_flights_go_by_sound(tmp_path: Path) -> None:
    if shutil.which("minimodem") is None and importlib.util.find_spec("ggwave") is None:
        pytest.skip("neither minimodem nor ggwave is installed")
    home = Home(tmp_path)
    with ended(home.both()):
        run("join", "--show", "--state", home.node, "--write", tmp_path / "1.wav")
        run("admit", "--no-wait", "--state", home.server, "--file", tmp_path / "1.wav", "--write", tmp_path / "4.wav")
        assert "has joined" in run("join", "--no-peer", "--state", home.node, "--file", tmp_path / "4.wav")
    assert "no flight 4 is to be heard" in run("join", "--state", home.node, "--file", tmp_path / "1.wav", status=2)


def test_a_changed_code_that_is_still_one_is_refused_and_burns_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with ended(home.both()):
        code = home.flight1()
        data = bytearray(read_code(code, CodeKind.KANG_FLIGHT))
        data[20] ^= 1
        assert "not made with the node's key" in run(
            "admit", "--state", home.server, code_of(CodeKind.KANG_FLIGHT, bytes(data)), status=1
        )
        flight4 = home.flight4(code)
        changed = bytearray(read_code(flight4, CodeKind.KANG_FLIGHT))
        changed[30] ^= 1
        assert "no answer to the code" in home.join(code_of(CodeKind.KANG_FLIGHT, bytes(changed)), status=1)
        home.join(flight4)


def test_a_revoked_node_is_refused_by_a_server_that_runs_and_comes_back_enrolled_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with ended(home.both()):
        home.join(home.flight4(home.flight1()))
        run("revoke", "lamp", "--state", home.server)
        assert status(home.server)["nodes"][0]["state"] == "revoked"
        assert "was revoked" in run("admit", "--state", home.server, home.flight1(), status=1)
        home.enrol("--again")
        home.join(home.flight4(home.flight1()))
        assert status(home.server)["nodes"][0]["state"] == "joined"


def test_a_node_that_lost_its_keys_is_told_so_and_enrolled_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with ended(home.both()):
        home.join(home.flight4(home.flight1()))
        (home.node / "bootstrap.db").unlink()
        assert "nothing was set up" in run("join", "--show", "--state", home.node, status=2)
        home.enrol("--again")
        home.join(home.flight4(home.flight1()))


@pytest.mark.long
def test_a_node_of_another_domain_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    run("serve", "--state", home.server, "--add-controller", "shop", "--nid", "udp:127.0.0.1:5702", "--domain", "shop")
    setup = tmp_path / "till.setup"
    run("enrol", "till", "--domain", "shop", "--state", home.server, "--out", setup)
    run("enrol", "--setup", setup, "--state", tmp_path / "till")
    flight1 = run("join", "--show", "--state", tmp_path / "till").strip()
    with ended(home.server_alone(), home.controller_alone()):
        refused = run("admit", "--state", home.attic, "--timeout", 1, flight1, status=1)
        assert "the server does not answer" in refused


def test_a_server_that_is_away_is_told_and_asked_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    flight1 = home.flight1()
    with ended(home.controller_alone()):
        waiting = subprocess.Popen(
            command("admit", "--no-wait", "--state", home.attic, flight1), stdout=subprocess.PIPE, text=True
        )
        time.sleep(1.0)
        with ended(home.server_alone()):
            out, _ = waiting.communicate(timeout=LIVE_S)
            assert waiting.returncode == 0
            home.join(out.strip())


def test_ctrl_c_in_the_middle_of_a_join_loses_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with ended(served := home.both()):
        flight1 = home.flight1()
        flight4 = home.flight4(flight1)
        served.end()
        joining = subprocess.Popen(
            command("join", "--no-peer", "--state", home.node, flight4), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        deadline = time.monotonic() + LIVE_S
        while "proving" not in str(status(home.node)) and time.monotonic() < deadline:
            time.sleep(0.1)
        joining.send_signal(signal.SIGINT)
        _, said = joining.communicate(timeout=LIVE_S)
        assert (joining.returncode, "Traceback" in said) == (130, False)
        served.start()
        assert "has joined" in run("join", "--no-peer", "--state", home.node)  # takes it up, and shows no code


def kill_now_and_then(stop: threading.Event, rng: random.Random, victims: tuple[Served, Served]) -> None:
    while not stop.wait(rng.uniform(0.2, 0.9)):
        rng.choice(victims).kill_and_start()


@pytest.mark.long
def test_whoever_is_killed_at_any_moment_comes_back_and_node_and_network_share_a_key(tmp_path: Path) -> None:
    home, rng = Home(tmp_path), random.Random(7)
    with ended(server := home.server_alone(), controller := home.controller_alone()):
        for number in range(4):
            stop = threading.Event()
            killer = threading.Thread(target=kill_now_and_then, args=(stop, rng, (server, controller)))
            killer.start()
            try:
                for attempt in range(20):
                    node = subprocess.run(
                        command("join", "--show", "--state", home.node, *(["--anew"] if attempt else [])),
                        capture_output=True, text=True, timeout=LIVE_S,
                    )  # fmt: skip
                    admitted = subprocess.run(
                        command("admit", "--no-wait", "--state", home.attic, node.stdout.strip()),
                        capture_output=True, text=True, timeout=LIVE_S,
                    )  # fmt: skip
                    assert "Traceback" not in admitted.stderr + node.stderr
                    if admitted.returncode != 0:
                        continue
                    joining = subprocess.Popen(
                        command("join", "--no-peer", "--state", home.node, "--timeout", 8, admitted.stdout.strip()),
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                    )  # fmt: skip
                    if rng.random() < 0.4:
                        time.sleep(rng.uniform(0.0, 0.6))
                        joining.kill()
                    joining.communicate()
                    shared, network = home.keys()
                    assert network in shared
                    if joining.returncode == 0:
                        break
            finally:
                stop.set()
                killer.join()
            assert joining.returncode == 0, f"join {number} did not come about"
            node_keys, network = home.keys()
            assert node_keys == {network}


def test_one_service_and_one_join_at_a_time_run_on_a_folder(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with ended(home.both()):
        assert "another bt-selfsecure bootstrap serve runs" in run("serve", "--state", home.server, status=2)


def test_strange_datagrams_and_lines_do_not_disturb_a_service(tmp_path: Path) -> None:
    home, rng = Home(tmp_path), random.Random(3)
    with ended(served := home.both()):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(2000):
                data = bytes([1, rng.randrange(10)]) + rng.randbytes(rng.choice((24, 32, 40, 50, 64, 82, 200)))
                stranger.sendto(data, ("127.0.0.1", rng.choice((home.port, home.nid))))
        for line in (b"\n", b"{}\n", b'{"flight1": 3}\n', b"[" * 5000, b'{"flight1": "0101"}\n', b""):
            with socket.socket(socket.AF_UNIX) as person:
                person.connect(str(home.server / "controller.sock"))
                person.sendall(line)
                person.shutdown(socket.SHUT_WR)
                person.settimeout(LIVE_S)
                person.recv(1000)
        home.join(home.flight4(home.flight1()))
        code, said = served.end()
        assert code == 0
        assert "Traceback" not in said


def test_a_node_that_began_anew_is_joined_only_when_the_newest_key_is_proved(tmp_path: Path) -> None:
    """Its former join was done at the server, and it never heard so: by the next flight 4 it knows, and goes on."""
    home = Home(tmp_path)
    with ended(served := home.both()):
        flight4 = home.flight4(home.flight1())
        before = home.keys()[1]
        served.end()
        assert "not joined yet" in run("join", "--no-peer", "--state", home.node, "--timeout", 1, flight4, status=1)
        served.start()
        flight5 = BootstrapStore(home.node).networks()[0].record.flight5
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as once:
            once.sendto(flight5, ("127.0.0.1", home.nid))  # the answer comes here, and not to the node
        until = time.monotonic() + LIVE_S
        while (psk := home.keys()[1]) == before:
            assert time.monotonic() < until
            time.sleep(0.1)
        refused = run("admit", "--state", home.server, home.flight1("--anew"), status=1)
        assert "not made with the node's key" in refused
        home.join(home.flight4(home.flight1("--anew")))  # under the other key
        keys, newest = home.keys()
        assert keys == {newest} != {psk}


@pytest.mark.long
def test_a_join_comes_about_over_networks_that_lose_double_and_hold_back(tmp_path: Path) -> None:
    home = Home(tmp_path)
    inner, nid = home.spare
    relays = LossyRelay(inner, home.port, 1), LossyRelay(nid, home.nid, 2)
    for relay in relays:
        relay.start()
    server = Served("--as", "server", "--state", home.server, "--bind", f"127.0.0.1:{inner}")
    controller = Served("--as", "controller", "--state", home.attic, "--controller-file", home.key, "--server",
                        f"127.0.0.1:{home.port}", "--nid-bind", f"127.0.0.1:{nid}")  # fmt: skip
    try:
        with ended(server, controller):
            for _ in range(3):
                home.join(home.flight4(home.flight1(), of=home.attic))
                keys, network = home.keys()
                assert keys == {network}
    finally:
        for relay in relays:
            relay.end()
    assert all(relay.passed for relay in relays)
    assert sum(relay.lost for relay in relays) > 0


IN_A_NAMESPACE = """
set -e
ip link set lo up
ip link add bt0 type veth peer name bt1
ip link set bt0 up
ip link set bt1 up
for _ in $(seq 100); do
  own=$(ip -6 -o addr show dev bt0 scope link -tentative | awk '{{ print $4 }}' | cut -d/ -f1)
  [ -z "$own" ] || break
  sleep 0.1
done
{run} serve --state server --add-controller hall --nid "udp:[$own%bt0]:5702"
{run} serve --state server >served &
served=$!
trap 'kill $served; wait $served || true' EXIT
until grep -q Ctrl-C served; do sleep 0.1; done
{run} enrol lamp --state server
{run} enrol --setup lamp.setup --state node
{run} join --show --state node >flight1
{run} admit --no-wait --state server --file flight1 >flight4
{run} join --no-peer --state node --file flight4 --timeout 30
"""
"""An interface with a link-local address alone, as IPSP makes one over Bluetooth."""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="a network namespace takes root")
def test_a_nid_may_be_on_an_interface_as_that_over_bluetooth(tmp_path: Path) -> None:
    script = IN_A_NAMESPACE.format(run=shlex.join(command()))
    done = subprocess.run(
        ["unshare", "-n", "bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=2 * LIVE_S
    )
    assert done.returncode == 0, done.stderr
    assert "lamp has joined home" in done.stdout
