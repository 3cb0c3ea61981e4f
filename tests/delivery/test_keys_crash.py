"""Keys that are handed over, and a program that ends at any step of it, as by SIGKILL or a pulled plug."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bt_selfsecure.delivery.consumers import CoapIdentities, KeyFile, OscoreFolder
from bt_selfsecure.delivery.etsi014.store import KeyStore
from bt_selfsecure.delivery.follow import Delivery
from bt_selfsecure.errors import UsageError

STEPS = frozenset(("open", "os.mkdir", "os.rename", "os.remove", "os.symlink", "os.rmdir", "os.scandir"))
"""Of Python's audit events (PEP 578)."""
CHAIN = "00112233445566aa"


def delivery(number: int) -> Delivery:
    return Delivery("bob", f"{CHAIN}.{number}", number.to_bytes(32))


def ends_at(step: int, work: Callable[[], None]) -> bool:
    """Do it in another process, which ends before this step of what it asks of the kernel; return whether it came so
    far."""
    child = os.fork()
    if not child:
        left = step

        def look(event: str, arguments: Any) -> None:
            nonlocal left
            if event in STEPS:
                left -= 1
                if left < 0:
                    os._exit(9)

        try:
            sys.addaudithook(look)
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def crashes(work: Callable[[], None]) -> int:
    """Let it be cut short at its first step, its second, and so on, each after the one before; return how many."""
    return next(step for step in range(1000) if not ends_at(step, work))


def test_a_key_file_has_this_key_or_the_one_before_whenever_the_program_ends(tmp_path: Path) -> None:
    file = tmp_path / "key"
    KeyFile(file).take(delivery(0))
    for step in range(1000):
        more = ends_at(step, lambda: KeyFile(file).take(delivery(1)))
        assert file.read_bytes() in (delivery(0).key, delivery(1).key)
        if not more:
            break
        KeyFile(file).take(delivery(0))
    assert step > 2
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_context_of_oscore_is_whole_and_its_numbers_go_on_whenever_the_program_ends(tmp_path: Path) -> None:
    folder = tmp_path / "contexts"

    def take(place: Path, number: int) -> None:
        OscoreFolder(place, is_lower=True).take(delivery(number))

    def numbers(place: Path) -> list[str]:
        return sorted(path.parent.name.removeprefix(f"{CHAIN}.") for path in place.glob(f"{CHAIN}.*/settings.json"))

    take(folder, 0)
    for number in range(1, 3):
        (folder / "current" / "sequence.json").write_text(str(number - 1))  # as aiocoap does
        step, more = 0, True
        while more:
            place = shutil.copytree(folder, tmp_path / f"{number}, {step}", symlinks=True)
            more = ends_at(step, lambda place=place, number=number: take(place, number))
            settings = json.loads((place / "current" / "settings.json").read_text())
            assert settings["secret_hex"] in (delivery(number).key.hex(), delivery(number - 1).key.hex())
            take(place, number)
            assert (place / "current").resolve().name == f"{CHAIN}.{number}"
            before = place / f"{CHAIN}.{number - 1}" / "sequence.json"
            assert before.read_text() == str(number - 1), "a nonce would come twice"
            take(place, number + 1)
            assert numbers(place) == [str(number), str(number + 1)]
            step += 1
        assert step > 5
        take(folder, number)


def test_libcoaps_identities_are_those_of_the_last_two_generations_whenever_the_program_ends(tmp_path: Path) -> None:
    file = tmp_path / "psk"

    def identities() -> list[str]:
        return [line.split(",")[1].removeprefix(f"{CHAIN}.") for line in file.read_text().splitlines()]

    CoapIdentities(file).take(delivery(0))
    for number in range(1, 4):
        assert crashes(lambda number=number: CoapIdentities(file).take(delivery(number))) > 2
        assert identities() == [str(number - 1), str(number)]
    identities_again = CoapIdentities(file)
    for _ in range(2):
        identities_again.take(delivery(3))
        assert identities() == ["2", "3"], "the same again, as where a lost peer is back"


# --- the store of a KME -----------------------------------------------------------------------------------------------

GIVES = """
import sys
from pathlib import Path
from bt_selfsecure.delivery.etsi014.store import KeyStore
store = KeyStore(Path(sys.argv[1]))
store.keep("pair", "aa.0", bytes(32))
slave = int(sys.argv[2])
print("up", flush=True)
while True:
    for index, key in store.reserve("pair", "aa.0", 3, 32):
        print("master", index, key.hex(), flush=True)
    if got := store.fetch("pair", [("aa.0", slave, 32), ("aa.0", slave + 1, 32)]):
        print("slave", slave, got[0].hex(), flush=True)
        print("slave", slave + 1, got[1].hex(), flush=True)
    slave += 2
"""


def test_a_kme_gives_no_key_twice_however_often_it_is_killed(tmp_path: Path) -> None:
    drawn = random.Random(1)
    given = Counter[str]()
    for _ in range(6):
        words = [sys.executable, "-c", GIVES, str(tmp_path / "keys.sqlite"), "0"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            time.sleep(drawn.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
            lines = process.stdout.read().splitlines(keepends=True)
        given.update(line for line in lines if line.endswith("\n"))
    assert len(given) > 20
    assert given.most_common(1)[0][1] == 1
    keys = Counter(line.split()[0] + line.split()[2] for line in given)
    assert keys.most_common(1)[0][1] == 1
    both = [{line.split()[1] for line in given if line.startswith(end)} for end in ("master", "slave")]
    assert both[0] & both[1], "the slave asks for keys that the master was given"


def test_a_store_that_is_full_gives_out_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys.sqlite")
    store.keep("pair", "aa.0", bytes(32))
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    given = list[int]()

    def fill() -> None:
        for slave in range(10_000):
            assert store.fetch("pair", [("aa.0", slave, 32)])
            given.append(slave)

    with pytest.raises(UsageError, match=r"none is \(SQLITE_FULL\): make room"):
        fill()
    store._db.execute("PRAGMA max_page_count = 100000")
    assert store.fetch("pair", [("aa.0", given[-1], 32)]) is None
    assert store.fetch("pair", [("aa.0", given[-1] + 1, 32)])
    assert [index for index, _ in store.reserve("pair", "aa.0", 2, 32)] == [0, 1]
    store.close()
