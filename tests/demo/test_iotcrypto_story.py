"""The story of two companies: each line is what real gateways, devices and a cloud did, and nothing is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from bt_selfsecure.cli.main import main
from bt_selfsecure.isolated import python_module


def test_a_boiler_is_shared_by_signatures_and_taken_back_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["demo", "iotcrypto"]) == 0
    said, fault = capsys.readouterr()
    assert fault == ""
    assert [*tmp_path.iterdir()] == []
    lines = said.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line[0] for line in lines if line[:1].isdigit()] == [*"123456"]
    came = [" ".join(act.split()) for act in said.split("\n\n")]
    assert "van: the other end says of this certificate: no trusted party" in came[1]
    assert "trusted here ('van'): no trusted party" in came[1]
    assert "van reads boiler: temperature 51.5" in came[2]
    assert "door at van: the other end says" in came[2]
    assert "trusted here ('sub-van'): no trusted party" in came[3]
    assert "trusted here ('van'): the certificate was revoked" in came[4]
    assert "ACME sees the boiler and the door; Heatco, by REST, the boiler ->" in came[5]


def test_what_did_not_go_as_it_should_is_told_and_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def one_act(story: Any) -> None:
        story.facts["third_is_refused"] = False

    monkeypatch.setattr("bt_selfsecure.demo.iotcrypto._Story.tell", one_act)
    assert main(["demo", "--story", "iotcrypto", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["story"], told["success"], told["third_is_refused"]) == ("iotcrypto", False, False)
    assert main(["demo", "--story", "iotcrypto"]) == 1
    assert "Not all of it went as it should" in capsys.readouterr().out


def test_a_seed_is_refused_where_it_would_change_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "iotcrypto", "--seed", "3"]) == 2
    assert capsys.readouterr().err == (
        "bt-selfsecure: --seed changes nothing in iotcrypto, whose keys this computer draws: leave it out\n"
    )


def test_an_interrupt_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = python_module("bt_selfsecure.cli.main", "demo", "iotcrypto")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as story:
        assert story.stdout and story.stderr  # noqa: PT018
        for line in story.stdout:
            if line.startswith("3 "):
                break
        story.send_signal(signal.SIGINT)
        begun = time.monotonic()
        assert story.wait(60) == 130
        assert time.monotonic() - begun < 10
        assert story.stderr.read() == "bt-selfsecure: interrupted; nothing was left half-written\n"
    assert [*tmp_path.iterdir()] == []
