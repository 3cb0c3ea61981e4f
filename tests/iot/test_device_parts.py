"""The parts of a device: the program that a person writes, and what it must not forget."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from bt_selfsecure.errors import UsageError
from bt_selfsecure.iot.database import open_database
from bt_selfsecure.iot.device import program as programs
from bt_selfsecure.iot.device.program import Program, ProgramError, UnknownNameError
from bt_selfsecure.iot.device.store import MOST_COMMANDS, DeviceStore
from bt_selfsecure.protocols.iotcrypto.transmission_messages import CommandStatus


def written(path: Path, text: str) -> str:
    file = path / "program.py"
    file.write_text(text)
    return str(file)


def test_a_program_is_read_from_a_file(tmp_path: Path) -> None:
    text = 'SENSORS = ["t"]\ndef read_sensor(name): return 21.5\n'
    text += 'def execute(name, argument): return f"{name}={argument}"\n'
    text += 'def alerts(): return ["hot", ("hotter", 3)]\n'
    program = Program.load(written(tmp_path, text))

    async def main() -> None:
        assert await program.readings(()) == await program.readings(("t",)) == {"t": 21.5}
        assert await program.execute("lamp", True) == "lamp=True"
        assert await program.alerts() == [("hot", None), ("hotter", 3)]
        with pytest.raises(UnknownNameError):
            await program.readings(("humidity",))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = (", "can't be imported (SyntaxError"),
        ("import nothing_of_this_name", "can't be imported (ModuleNotFoundError"),
        ("x = 1", "has none of read_sensor"),
        ('SENSORS = "t"\ndef read_sensor(name): ...', "must be a list of names"),
        ('SENSORS = ("t",)\ndef execute(name, argument): ...', "no read_sensor"),
        ('SENSORS = ("x" * 33,)\ndef read_sensor(name): ...', "can't be named so"),
        ("SENSORS = [str(n) for n in range(33)]\ndef read_sensor(name): ...", "too many"),
    ],
)
def test_a_program_that_cant_be_used_is_named_with_its_fault(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UsageError, match=r"program\.py") as error:
        Program.load(written(tmp_path, text))
    assert why in str(error.value)
    with pytest.raises(UsageError, match="can't be imported"):
        Program.load(str(tmp_path / "nowhere.py"))


def test_what_a_program_raises_or_returns_amiss_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "CALL_S", 0.05)

    def fails(*of: Any) -> Any:
        raise RuntimeError("no such luck")

    async def main() -> None:
        with pytest.raises(ProgramError, match="RuntimeError: no such luck"):
            await Program(("t",), fails).readings(())
        with pytest.raises(ProgramError, match="raised"):
            await Program(("t",), lambda name: object()).readings(())  # type: ignore[arg-type,return-value]
        with pytest.raises(ProgramError, match="can't be sent"):
            await Program(("t",), lambda name: float("nan")).readings(())
        with pytest.raises(ProgramError, match="can't be sent"):
            await Program(alerts=lambda: [("hot", float("inf"))]).alerts()
        with pytest.raises(UnknownNameError):
            await Program().execute("lamp", None)
        slow = Program(("t",), lambda name: time.sleep(0.3))  # type: ignore[func-returns-value,return-value]
        with pytest.raises(ProgramError, match="has not returned in"):
            await slow.readings(())
        with pytest.raises(ProgramError, match="not returned yet"):
            await slow.readings(())
        await asyncio.sleep(0.5)
        with pytest.raises(ProgramError, match="has not returned in"):
            await slow.readings(())

    asyncio.run(main())


def test_who_asks_while_a_sensor_is_read_waits_for_its_turn() -> None:
    running = 0

    def slow(name: str) -> int:
        nonlocal running
        running += 1
        time.sleep(0.05)
        alone = running == 1
        running -= 1
        return alone

    async def main() -> None:
        program = Program(("t",), slow)
        assert await asyncio.gather(*(program.readings(()) for _ in range(4))) == [{"t": True}] * 4

    asyncio.run(main())


def test_text_of_a_program_is_made_printable_and_short() -> None:
    async def main() -> None:
        program = Program(("t",), lambda name: "\x1b[2J" + "ü" * 300, lambda name, argument: None)
        (said,) = (await program.readings(())).values()
        assert str(said).startswith(" [2J")
        assert len(str(said).encode()) <= 256
        assert await program.execute("x", None) == ""

    asyncio.run(main())


def test_alerts_wait_in_order_over_restarts_under_ids_that_rise(tmp_path: Path) -> None:
    ids = []
    for number in range(3):
        store = DeviceStore(tmp_path / "device.db")
        store.add_alert(1000 + number, f"alert {number}", number)
        store.close()
    store = DeviceStore(tmp_path / "device.db")
    for number in range(3):
        alert = store.first_alert()
        assert alert
        assert (alert.text, alert.value, alert.time) == (f"alert {number}", number, 1000 + number)
        ids.append(alert.id)
        store.drop_alert(alert.id)
    assert store.first_alert() is None
    store.add_alert(0, "later", None)
    later = store.first_alert()
    assert later
    assert [*ids, later.id] == list(range(ids[0], ids[0] + 4))
    assert ids[0] & 0xFFFFFFFF == 0


def test_a_command_is_begun_once_whatever_happens_in_it(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "device.db")
    top = (1 << 64) - 1
    assert store.begin(top) is None
    store.close()  # as by a power cut
    store = DeviceStore(tmp_path / "device.db")
    assert store.begin(top) == CommandStatus(False, "it was begun before, and what came of it is not known")
    store.finish(top, CommandStatus(True, "done"))
    assert store.begin(top) == CommandStatus(True, "done")
    for number in range(MOST_COMMANDS):
        assert store.begin(number) is None
    assert store.begin(top) is None  # so many later it is forgotten
    assert store.begin(MOST_COMMANDS - 1) is not None


def test_a_store_that_cant_be_used_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "device.db"
    store = DeviceStore(path)
    store.add_alert(0, "x", None)
    with pytest.raises(UsageError, match="another program uses"):
        DeviceStore(path)
    store.close()
    assert path.stat().st_mode & 0o777 == 0o600
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version = 9")
    base.close()
    with pytest.raises(UsageError, match="is of version 9"):
        DeviceStore(path)
    (tmp_path / "text.db").write_text("no database at all, but text" * 100)
    with pytest.raises(UsageError, match="move it away"):
        open_database(tmp_path / "text.db", "", 1)
    with pytest.raises(UsageError, match="can't write"):
        open_database(Path("/proc/nowhere/device.db"), "", 1)
