"""The local API and its client on real nodes, joined by a bearer in memory."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from served_pair import ADDRESSES, Pair
from test_api import Caller, described, fits, wait_until

from bt_selfsecure.node.pipe import Pipe


def secrets_of(value: Any, name: str = "") -> Iterator[str]:
    """What a session's record keeps secret, as it would be written somewhere else."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from secrets_of(below, key)
    elif isinstance(value, list):
        for below in value:
            yield from secrets_of(below, name)
    elif isinstance(value, str) and name in ("key", "checkpoints", "offer", "previous") and value:
        yield value


def test_nodes_answer_as_described_and_show_no_secret(pair: Pair) -> None:
    """Asked for at once, before the nodes have agreed on a key by themselves."""
    with Caller(pair.server.socket("alice")) as caller:
        answers = [caller.ask("POST", "/v1/peers/bob/establish")[1]]
        assert fits(answers[0], described("/v1/peers/{peer}/establish", "post", 200))
        pair.wait_for_key()
        for path in ("/v1/status", "/v1/health", "/v1/peers"):
            status, answer = caller.ask("GET", path)
            assert fits(answer, described(path, "get", status)), answer
            answers.append(answer)
    assert answers[0]["established"]
    assert answers[0]["sas"], "it was asked for here"
    assert pair.clients["bob"].peers()[0]["key"]["sas"] == "", "and not there"
    assert "hides losses" in answers[0]["rests_on"]
    shown = json.dumps(answers).lower()
    kept = json.loads(pair.nodes["alice"]._peers[ADDRESSES["bob"]]._machine.session.session.record.to_json())
    secrets = list(secrets_of(kept))
    assert len(secrets) >= 4
    assert not any(secret in shown for secret in secrets)


def test_a_program_that_goes_waits_for_no_key_any_more(pair: Pair) -> None:
    """Else a string would come for one whom nobody waits for."""
    pair.wait_for_key()
    agreement = pair.nodes["bob"]._peers[ADDRESSES["alice"]]._machine.agreement
    with socket.socket(socket.AF_UNIX) as program:
        program.connect(str(pair.server.socket("bob")))
        program.sendall(b"POST /v1/peers/alice/establish?wait=true HTTP/1.1\r\nHost: node\r\nContent-Length: 0\r\n\r\n")
        wait_until(lambda: agreement.is_wanted)
        assert not agreement.is_asked
    wait_until(lambda: not agreement.is_wanted)


@pytest.mark.parametrize("spelled", [str, lambda address: address.lower().replace(":", "-")])
def test_messages_go_from_client_to_client(pair: Pair, spelled: Callable[[str], str]) -> None:
    """By name; by address, as it is printed and as Windows writes it."""
    pair.wait_for_key()
    pair.clients["alice"].send(spelled(ADDRESSES["bob"]), b"by address", until="acknowledged", timeout=30)
    (received,) = pair.clients["bob"].receive(peer=spelled(ADDRESSES["alice"]))
    assert received.message == b"by address"
    pair.clients["bob"].acknowledge(received.id)
    message = os.urandom(1 << 20)
    pair.clients["alice"].send("bob", message, until="acknowledged", timeout=30)
    (received,) = pair.clients["bob"].receive(peer="alice")
    assert received.message == message
    assert abs(received.time - time.time()) < 30
    pair.clients["bob"].acknowledge(received.id)
    assert list(pair.clients["bob"].receive()) == []


@pytest.mark.long
def test_a_pipe_survives_nodes_that_restart(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.wait_for_key()
    monkeypatch.setattr("bt_selfsecure.node.client.RETRY_S", 0.02)
    (big := tmp_path / "big").write_bytes(os.urandom(2_000_000))
    pipes, threads, failures = [], [], []
    for name, peer in (("alice", "bob"), ("bob", "alice")):
        sink = os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT)
        pipes.append(pipe := Pipe(pair.clients[name], peer, os.open(big, os.O_RDONLY), sink))

        def run(pipe: Pipe = pipe) -> None:
            try:
                pipe.run(lambda pipe: None)
            except Exception as error:
                failures.append(error)

        threads.append(thread := threading.Thread(target=run))
        thread.start()
    for name in ("bob", "alice"):
        wait_until(lambda: pipes[0].received > 300_000 or failures)
        pair.stop(name)
        pair.start(name)
    for thread in threads:
        thread.join(60)
    assert not failures
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (big, tmp_path / "alice", tmp_path / "bob")}
    assert len(digests) == 1
