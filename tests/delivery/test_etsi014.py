"""Keys by ETSI GS QKD 014: two KMEs over two real daemons, asked by the clients that others have published."""

from __future__ import annotations

import base64
import itertools
import json
import re
import secrets
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from etsi_qkd_014_client import QKD014Client
from hypothesis import given
from hypothesis import strategies as st
from qkdsec.client.etsi014 import ETSI014Client

from bt_selfsecure import __version__
from bt_selfsecure.authority import issue
from bt_selfsecure.delivery.etsi014.key_ids import KeyId
from bt_selfsecure.delivery.etsi014.store import KEPT_GENERATIONS, KeyStore
from bt_selfsecure.errors import UsageError
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.node.two_nodes import OTHER, TwoNodes

pytestmark = pytest.mark.timeout(180)
SAE = {"alice": "app-a", "bob": "app-b"}


class Kmes:
    """A KME for each end, each with a folder of its own, certificates of one authority."""

    def __init__(self, nodes: TwoNodes, folder: Path) -> None:
        self.nodes, self.folder = nodes, folder
        issue(folder, ["kme-alice", "kme-bob", *SAE.values(), "stranger"], [])
        issue(folder / "other", ["app-a"], [])
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.places = {name: f"127.0.0.1:{port}" for name, port in zip(SAE, free_ports("127.0.0.1", 2), strict=True)}
        for name in SAE:
            own = folder / name
            own.mkdir()
            for file in (f"kme-{name}.crt", f"kme-{name}.key", "ca.crt"):
                (own / file).write_bytes((folder / file).read_bytes())
                (own / file).chmod(0o600)
            self.start(name)

    def start(self, name: str) -> None:
        words = ["--kme", f"kme-{name}", "--sae", SAE[name], "--peer", f"{OTHER[name]}={SAE[OTHER[name]]}"]
        command = self.nodes.command(
            "key", "serve", str(self.folder / name), *words, "--listen", self.places[name],
            "--config", str(self.nodes.config(name)),
        )  # fmt: skip
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        stdout = self.processes[name].stdout
        assert stdout is not None
        assert "serving on" in stdout.readline()
        wait_for(self.places[name])

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)

    def client(self, name: str) -> ETSI014Client:
        files = str(self.folder / f"{SAE[name]}.crt"), str(self.folder / f"{SAE[name]}.key")
        return ETSI014Client(f"https://{self.places[name]}", client_cert=files, verify=str(self.folder / "ca.crt"))

    def ask(self, name: str, path: str, body: Any = None, who: str = "") -> tuple[int, dict[str, Any]]:
        """By the standard library, so that a request may be wrong."""
        files = self.folder / (who or SAE[name])
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        context.load_cert_chain(f"{files}.crt", f"{files}.key")
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        where = path if path.startswith("/") else f"/api/v1/keys/{path}"
        request = urllib.request.Request(f"https://{self.places[name]}{where}", data)
        try:
            with urllib.request.urlopen(request, context=context, timeout=60) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, json.load(error)


def wait_for(place: str) -> None:
    host, _, port = place.partition(":")
    for _ in range(1200):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nobody listens on {place}")


@pytest.fixture(scope="module")
def kmes(nodes: TwoNodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kmes]:
    kmes = Kmes(nodes, tmp_path_factory.mktemp("kmes"))
    try:
        yield kmes
    finally:
        kmes.stop()


def test_the_client_qkdsec_gets_the_same_keys_at_both_ends_each_once(kmes: Kmes) -> None:
    master, slave = kmes.client("alice"), kmes.client("bob")
    assert master.status("app-b").stored_key_count > 0
    for method, size in itertools.product(("GET", "POST"), (64, 256, 1024)):
        keys = master.get_enc_keys("app-b", number=3, size=size, method=method)
        assert [len(each.key) for each in keys] == [size // 8] * 3
        assert len({bytes(each.key) for each in keys}) == 3
        got = slave.get_dec_keys("app-a", key_ids=[each.key_id for each in keys])
        assert [(each.key_id, each.key) for each in got] == [(each.key_id, each.key) for each in keys]
        status, error = kmes.ask("bob", "app-a/dec_keys", {"key_IDs": [{"key_ID": keys[0].key_id}]})
        assert (status, error["message"]) == (400, "one or more keys specified are not found on KME")


def test_the_client_of_lip6_gets_the_same_keys_at_both_ends(kmes: Kmes) -> None:
    ends = {
        name: QKD014Client(
            kmes.places[name],
            str(kmes.folder / f"{SAE[name]}.crt"),
            str(kmes.folder / f"{SAE[name]}.key"),
            str(kmes.folder / "ca.crt"),
        )
        for name in SAE
    }
    status, _ = ends["bob"].get_status("app-a")
    assert status == 200
    status, made = ends["bob"].get_key("app-a", number=2, size=128)
    assert status == 200
    ids = [str(each.key_id) for each in made.keys]
    status, got = ends["alice"].get_key_with_key_IDs("app-b", ids)
    assert status == 200
    assert [str(each.key) for each in got.keys] == [str(each.key) for each in made.keys]


def test_a_key_that_waits_is_there_after_rotations_and_kills_and_none_comes_twice(kmes: Kmes) -> None:
    master, seen = kmes.client("alice"), set[bytes]()
    waiting = []
    for step in ("plain", "rotated", "killed"):
        if step == "rotated":
            kmes.nodes.client("alice").key("bob", "anything", rotate=True)
        elif step == "killed":
            kmes.kill("alice")
            kmes.start("alice")
        made = master.get_enc_keys("app-b", number=5)
        assert not seen & {bytes(each.key) for each in made}
        seen |= {bytes(each.key) for each in made}
        waiting += made
    kmes.kill("bob")
    kmes.start("bob")
    got = kmes.client("bob").get_dec_keys("app-a", key_ids=[each.key_id for each in waiting])
    assert [each.key for each in got] == [each.key for each in waiting]
    kmes.kill("bob")
    kmes.start("bob")
    status, _ = kmes.ask("bob", "app-a/dec_keys", {"key_IDs": [{"key_ID": waiting[0].key_id}]})
    assert status == 400, "a key that was fetched comes again after a crash"


def test_of_several_keys_all_come_or_none(kmes: Kmes) -> None:
    one, two = kmes.client("alice").get_enc_keys("app-b", number=2)
    bad = str(KeyId.parse(two.key_id)._replace(chain="000000000000"))  # type: ignore[union-attr]
    status, _ = kmes.ask("bob", "app-a/dec_keys", {"key_IDs": [{"key_ID": one.key_id}, {"key_ID": bad}]})
    assert status == 400
    assert len(kmes.client("bob").get_dec_keys("app-a", key_ids=[one.key_id, two.key_id])) == 2


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("app-b/enc_keys?size=65", None, 400, "size shall be a multiple of 8"),
        ("app-b/enc_keys?size=8", None, 400, "size is out of range"),
        ("app-b/enc_keys?number=0", None, 400, "number is out of range"),
        ("app-b/enc_keys", {"number": "many"}, 400, "number shall be an integer"),
        ("app-b/enc_keys", {"additional_slave_SAE_IDs": ["x"]}, 400, "not supported"),
        ("app-b/enc_keys", {"extension_mandatory": [{"a": 1}]}, 400, "extension_mandatory"),
        ("app-b/enc_keys", b"[1]", 400, "not a JSON object"),
        ("app-b/enc_keys", b"{", 400, "not JSON"),
        ("nobody/enc_keys", None, 400, "unknown SAE_ID"),
        ("app-b/dec_keys", {}, 400, "key_IDs is missing"),
        ("app-b/dec_keys?key_ID=x", None, 400, "not found on KME"),
        ("app-b/else", None, 404, "Not Found"),
    ],
)
def test_what_the_standard_refuses_is_refused_in_its_form(
    kmes: Kmes, path: str, body: Any, status: int, said: str
) -> None:
    got, error = kmes.ask("alice", path, body)
    assert got == status
    assert said in error["message"]


def test_a_certificate_of_another_authority_gets_no_answer_and_one_of_no_application_401(kmes: Kmes) -> None:
    with pytest.raises((ssl.SSLError, OSError)):
        kmes.ask("alice", "app-b/status", who="other/app-a")
    status, error = kmes.ask("alice", "app-b/status", who="stranger")
    assert (status, error["message"]) == (401, "'stranger' is no application of this KME")


def test_nothing_of_a_key_is_logged(kmes: Kmes) -> None:
    (made,) = kmes.client("alice").get_enc_keys("app-b")
    kmes.client("bob").get_dec_keys("app-a", key_ids=[made.key_id])
    for name in SAE:
        text = (kmes.folder / f"{name}.log").read_text() + kmes.nodes.log(name).read_text()
        for form in (bytes(made.key).hex(), base64.b64encode(made.key).decode()):
            assert form not in text
        assert "Traceback" not in text


@pytest.mark.long
@pytest.mark.parametrize(
    ("slave", "only"), [("", "/api/v1/"), ("app-b", "/(status|enc_keys)$")], ids=["anybody", "one it knows"]
)
def test_schemathesis_finds_nothing(kmes: Kmes, tmp_path: Path, slave: str, only: str) -> None:
    """Over mutual TLS. Whoever asks for a slave that is known, or for what no key needs, is refused nothing."""
    pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install -e .[dev]")
    status, described = kmes.ask("alice", "/api/v1/openapi.json")
    assert (status, described["info"]["version"]) == (200, __version__)
    excluded = "missing_required_header"
    if slave:
        for operations in described["paths"].values():
            for operation in operations.values():
                for parameter in operation.get("parameters", []):
                    if parameter["name"] == "SAE_ID":
                        parameter["schema"] = {"const": slave}
    else:
        excluded += ",positive_data_acceptance"  # names of keys and of applications are in no schema
    (tmp_path / "openapi.json").write_text(json.dumps(described))
    files = kmes.folder / SAE["alice"]
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", f"https://{kmes.places['alice']}",
        "--request-cert", f"{files}.crt", "--request-cert-key", f"{files}.key",
        "--tls-verify", str(kmes.folder / "ca.crt"), "--include-path-regex", only,
        "--exclude-checks", excluded, "--max-examples", "30", "--seed", "1", "--no-color", "--generation-deterministic",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Traceback" not in (kmes.folder / "alice.log").read_text()


@given(st.binary(min_size=6, max_size=6), st.integers(0, 2**30 - 1), st.integers(0, 2**32 - 1), st.integers(8, 128))
def test_a_name_says_which_key_it_is(chain: bytes, generation: int, place: int, size: int) -> None:
    name = KeyId(chain.hex(), generation, place, size)
    assert KeyId.parse(str(name)) == name
    assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", str(name))


@given(st.text(max_size=40) | st.uuids().map(str))
def test_other_names_are_none_of_ours(text: str) -> None:
    name = KeyId.parse(text)
    assert name is None or str(name) == text.lower()


def test_roots_of_old_generations_are_erased_with_what_was_fetched(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys.sqlite")
    roots = [secrets.token_bytes(32) for _ in range(KEPT_GENERATIONS + 3)]
    for number, root in enumerate(roots):
        store.keep("pair", f"aa.{number}", root)
        assert store.fetch("pair", [(f"aa.{number}", 0, 32)])
    assert store.generations("pair")[-1] == "aa.3"
    assert store.fetch("pair", [("aa.2", 1, 32)]) is None
    store.close()
    bytes_on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert not any(root in bytes_on_disk for root in roots[:3])


def test_a_certificate_is_not_made_twice_and_a_damaged_authority_is_told(tmp_path: Path) -> None:
    issue(tmp_path, ["app"], [])
    with pytest.raises(UsageError, match="is there already"):
        issue(tmp_path, ["app"], [])
    (tmp_path / "ca.crt").write_text("damage")
    with pytest.raises(UsageError, match="missing or damaged"):
        issue(tmp_path, ["other"], [])
    with pytest.raises(UsageError, match="no name for a certificate"):
        issue(tmp_path, ["a/b"], [])
