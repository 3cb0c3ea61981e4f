"""A database that a running cloud can't read: health and REST answer 503, the log has the cause, and all is as before
once it can be read."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from cloud_network import Rest, cloud_at
from postgres_server import PostgresServer

from bt_selfsecure.iot.cloud import cloud, readers, sql
from bt_selfsecure.iot.cloud.api import NO_DATABASE
from bt_selfsecure.iot.cloud.api_operations import OPERATIONS
from bt_selfsecure.iot.cloud.readers import Readers
from bt_selfsecure.iot.cloud.sql import CloudDatabase, SqlError, connect

Break = Callable[[Path], AbstractContextManager[None]]


@contextlib.contextmanager
def moved_away(file: Path) -> Iterator[None]:
    file.rename(file.with_suffix(".away"))
    try:
        yield
    finally:
        file.with_suffix(".away").rename(file)


@contextlib.contextmanager
def unreadable(file: Path) -> Iterator[None]:
    with moved_away(file):
        file.mkdir()  # which root can't read as a file either
        yield
        file.rmdir()


@contextlib.contextmanager
def damaged(file: Path) -> Iterator[None]:
    with moved_away(file):
        file.write_bytes(b"no database at all" * 100)
        yield
        file.unlink()


async def says_503_meanwhile(rest: Rest, broken: AbstractContextManager[None]) -> None:
    with broken:
        status, told = await rest.ask("/v1/health")
        assert (status, told) == (503, {"healthy": False, "problems": [NO_DATABASE]})
        for path in ("/v1/network", "/v1/devices", "/v1/trust", "/v1/metrics"):
            status, told = await rest.ask(path)
            assert (status, "database" in told["error"]) == (503, True), path
    assert await rest.ask("/v1/health") == (200, {"healthy": True, "problems": []})
    assert (await rest.get("/v1/network"))["problems"] == []


@pytest.mark.parametrize("broken", [moved_away, unreadable, damaged])
def test_a_file_that_a_running_cloud_can_not_read_is_503_and_the_cause_is_logged_once(
    tmp_path: Path, broken: Break, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with cloud_at(tmp_path) as running:
            await says_503_meanwhile(running.rest(), broken(tmp_path / "cloud/cloud.db"))

    asyncio.run(main())
    (logged,) = [each.message for each in caplog.records if "nothing can be read from the database" in each.message]
    assert len(logged) > len("nothing can be read from the database: ")


def test_whoever_shows_no_token_learns_no_path_and_no_server_from_a_database_that_is_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with cloud_at(tmp_path) as running:
            rest = running.rest()
            with moved_away(tmp_path / "cloud/cloud.db"):
                await running.cloud._disk.do(running.cloud._close)
                assert await running.cloud._on_disk(lambda store: True) is None
                assert str(tmp_path) in running.cloud.trouble
                answers = [await rest.ask(path) for path in ("/v1/health", "/v1/network")]
            assert [status for status, told in answers] == [503, 503]
            assert str(tmp_path) not in str(answers)

    asyncio.run(main())


def test_a_server_that_is_away_is_503(tmp_path: Path, postgres: PostgresServer) -> None:
    @contextlib.contextmanager
    def away() -> Iterator[None]:
        postgres.cut()
        try:
            yield
        finally:
            postgres.start()

    async def main() -> None:
        async with cloud_at(tmp_path, database=postgres.database("away")) as running:
            await says_503_meanwhile(running.rest(), away())

    asyncio.run(main())


def test_a_database_that_another_program_locks_is_told_of_to_each_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "WAIT_S", 2.0)  # far from the other: a busy computer turns its loop late
    monkeypatch.setattr(readers, "PROBE_S", 0.1)

    async def main() -> None:
        made = connect("", tmp_path, new=True)
        made.execute("CREATE TABLE counter (last)")
        made.close()
        other = sqlite3.connect(tmp_path / "cloud.db", isolation_level=None)
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        lent = Readers(partial(connect, "", tmp_path), threads=1)
        told = await asyncio.gather(*(lent.trouble() for _ in range(100)))
        assert set(told) == {"the database has not answered for 0.1 s"}
        monkeypatch.setattr(readers, "PROBE_S", 60.0)
        assert "locked" in await lent.trouble()
        with pytest.raises(SqlError, match="locked"):
            await lent.do(CloudDatabase.execute, "SELECT last FROM counter")
        other.close()
        assert await lent.trouble() == ""
        lent.close()

    asyncio.run(main())


def test_a_cloud_whose_database_is_away_for_writing_goes_on_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "RETRY_S", 0.1)

    async def main() -> None:
        async with cloud_at(tmp_path) as running:
            with moved_away(tmp_path / "cloud/cloud.db"):
                await running.cloud._disk.do(running.cloud._close)  # as after an error
                assert await running.cloud._on_disk(lambda store: True) is None
                assert "can't use the database" in running.cloud.trouble
            assert await running.cloud._on_disk(lambda store: True)
            assert not running.cloud.trouble

    asyncio.run(main())


def test_each_operation_says_in_the_description_that_it_may_answer_503(tmp_path: Path) -> None:
    async def main() -> None:
        async with cloud_at(tmp_path) as running:
            paths = (await running.rest().get("/v1/openapi.json"))["paths"]
            for each in OPERATIONS.values():
                assert "503" in paths[each.operation.path][each.operation.method.lower()]["responses"]

    asyncio.run(main())
