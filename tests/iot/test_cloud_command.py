"""`cloud` as people type it: a living network by one command, tokens, a backup, lines for other systems."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from test_cloud_store import GATEWAY, NOW_MS, arrival, counts_of, reading, take

from bt_selfsecure.iot.cloud.schema import migrate
from bt_selfsecure.iot.cloud.sql import connect
from bt_selfsecure.iot.cloud.store import CloudStore
from bt_selfsecure.protocols.iotcrypto.records import AlertRecord

COMMAND = [sys.executable, "-m", "bt_selfsecure.cli.main", "cloud"]


def cloud(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def demonstration(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """`cloud up --demo` once it lives, the page's address, and its token."""
    said = folder.with_suffix(".said")
    with said.open("w") as out:
        process = subprocess.Popen(
            [*COMMAND, "up", "--demo", "--folder", str(folder)], stdout=out, stderr=subprocess.STDOUT, text=True
        )
    try:
        until = time.monotonic() + 90
        while not (found := re.search(r"(http://\S+)/#token=(\S+)", said.read_text())):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < until, said.read_text()
            time.sleep(0.1)
        yield process, found[1], found[2]
    finally:
        process.terminate()
        process.wait(30)


def processes_of(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in text and " up " not in text:
            found.append(text)
    return found


def test_a_demonstration_lives_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with demonstration(folder) as (process, url, token):
        request = urllib.request.Request(f"{url}/v1/devices", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            devices = json.load(answer)["devices"]
        assert {each["name"] for each in devices if each["readings"]} == {"processor", "storage", "lamp"}
        assert len(processes_of(folder)) == 5
        said = folder.with_suffix(".said").read_text()
        assert max(len(line) for line in said.splitlines() if str(folder) not in line) <= 80
        to_try = "\n".join(line for line in said.splitlines() if line.startswith("  "))
        if shutil.which("curl"):
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            tried = subprocess.run(
                ["bash", "-c", to_try], env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=60
            )
            assert "it is on" in tried.stdout, tried
            assert '{"new": true}' in tried.stdout, tried
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert "Traceback" not in folder.with_suffix(".said").read_text()
        assert processes_of(folder) == []
        for log in folder.glob("*.log"):
            assert "Traceback" not in log.read_text(), log


def configuration(path: Path) -> Path:
    """Of a cloud that has some records."""
    file = path / "cloud.toml"
    file.write_text(f'[cloud]\nstate = "{path}"\n')
    base = connect("", path, new=True)
    migrate(base)
    alert = AlertRecord(reading(1).device, NOW_MS, 1, "hot", 99.5)
    take(CloudStore(base), arrival(1, reading(1), reading(2), alert, reading(3)))
    base.close()
    return file


def test_tokens_are_made_listed_and_revoked(tmp_path: Path) -> None:
    config = "--config", str(configuration(tmp_path))
    made = cloud("token", "add", "anna", "--role", "operator", *config)
    assert re.fullmatch(r"btss_[\w-]{43}\n", made.stdout)
    assert cloud("token", "add", "anna", *config).returncode == 2
    assert re.fullmatch(r"anna: operator, until 20\d\d-\d\d-\d\d\n", cloud("token", "list", *config).stdout)
    assert cloud("token", "revoke", "anna", *config).returncode == 0
    assert "there is no token 'anna'" in cloud("token", "revoke", "anna", *config).stderr
    partner = cloud("token", "add", "b", "--role", "partner", *config)
    assert partner.returncode == 2
    assert "certificate" in partner.stderr


def test_another_program_that_ends_takes_nothing_from_a_cloud_that_runs(tmp_path: Path) -> None:
    config = "--config", str(configuration(tmp_path))
    first = connect("", tmp_path)
    with closing(first), closing(connect("", tmp_path)):  # as a cloud has: one takes, others serve REST
        assert cloud("token", "add", "anna", *config).returncode == 0
        assert {path.name for path in tmp_path.glob("cloud.db-*")} == {"cloud.db-wal", "cloud.db-shm"}
        take(CloudStore(first), arrival(5, reading(4), reading(5)))
        assert len(cloud("export", *config).stdout.splitlines()) == 6


def test_a_backup_is_whole_and_opens_as_a_database(tmp_path: Path) -> None:
    config = "--config", str(configuration(tmp_path))
    copy = tmp_path / "copy"
    assert cloud("backup", str(copy / "cloud.db"), *config).returncode == 2
    copy.mkdir()
    assert cloud("backup", str(copy / "cloud.db"), *config).returncode == 0
    assert "is there already" in cloud("backup", str(copy / "cloud.db"), *config).stderr
    assert (copy / "cloud.db").stat().st_mode & 0o777 == 0o600
    base = connect("", copy)
    assert counts_of(base) == [1, 2, 3]
    assert base.execute("SELECT id FROM member WHERE role = 2") == [(GATEWAY.certificate.id,)]
    base.close()


def test_an_export_goes_on_where_it_was_and_gives_again_what_was_not_taken(tmp_path: Path) -> None:
    config = "--config", str(configuration(tmp_path))
    everything = [json.loads(line) for line in cloud("export", *config).stdout.splitlines()]
    assert [each["kind"] for each in everything] == ["reading", "reading", "alert", "reading"]
    assert [each["number"] for each in everything] == sorted(each["number"] for each in everything)
    taken, place = tmp_path / "taken", tmp_path / "place"
    fails_once = f"test -e {tmp_path}/tried || {{ touch {tmp_path}/tried; exit 3; }}; cat >>{taken}"
    (tmp_path / "tried").touch()
    first = cloud("export", "--to", fails_once, "--cursor", str(place), *config)
    assert first.returncode == 0, first.stderr
    assert len(taken.read_text().splitlines()) == 4
    assert cloud("export", "--to", fails_once, "--cursor", str(place), *config).returncode == 0
    assert len(taken.read_text().splitlines()) == 4
    place.write_text("nonsense")
    assert "holds no place of an export" in cloud("export", "--cursor", str(place), *config).stderr
    os.remove(tmp_path / "tried")  # noqa: PTH107


def test_a_configuration_that_is_wrong_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "cloud.toml"
    file.write_text("[keep]\nreadings_days = 0\n")
    told = cloud("config", "--config", str(file))
    assert told.returncode == 2
    assert f"{file}:2" in told.stderr
    shown = cloud("config")
    assert shown.returncode == 0
    assert "#readings_days = 90" in shown.stdout
