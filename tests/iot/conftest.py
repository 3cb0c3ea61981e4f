"""Databases for the cloud: a file of SQLite, and PostgreSQL where it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser_phone import chromium  # noqa: F401 - a fixture
from postgres_server import PostgresServer, running_server

from bt_selfsecure.iot.cloud.schema import migrate
from bt_selfsecure.iot.cloud.sql import CloudDatabase, connect

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Of a database of its own: empty for SQLite, which is in `tmp_path`."""
    if request.param == "sqlite":
        return ""
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.database(f"cloud{next(_numbers)}")


@pytest.fixture
def open_again(database_url: str, tmp_path: Path) -> Iterator[Callable[[], CloudDatabase]]:
    """Open the database, each time by another connection."""
    opened: list[CloudDatabase] = []

    def again() -> CloudDatabase:
        opened.append(connect(database_url, tmp_path, new=True))
        migrate(opened[-1])
        return opened[-1]

    yield again
    for base in opened:
        base.close()
