"""Virtual Pis for tests: shared by the tests of a module, ended with it; a failing test shows what they said."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from running_lab import RunningLab

LONGEST: Final = ("test_nodes_long.py", "test_install.py", "test_nodes_killed.py", "test_eve_live.py")
"""They begin first where files are shared out (`--dist loadfile --no-loadscope-reorder`), so that none is left over at
the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


class Labs:
    """`labs("alice", "bob")`: these machines, up, on an air that loses nothing until `set_loss`."""

    def __init__(self, place: Path, ends: ExitStack) -> None:
        self._place, self._ends = place, ends
        self._labs: dict[tuple[Any, ...], RunningLab] = {}

    def __call__(self, *names: str, options: tuple[str, ...] = ()) -> RunningLab:
        if (names, options) not in self._labs:
            lab = RunningLab(self._place / f"lab{len(self._labs)}", names, options)
            self._labs[names, options] = lab
            self._ends.callback(lab.end)
        lab = self._labs[names, options]
        for name, machine in lab.status()["machines"].items():
            if not machine["running"]:
                lab.do("start", machine=name)
        lab.set_loss()
        return lab

    def all_logs(self) -> str:
        return "\n".join(lab.all_logs() for lab in self._labs.values())


@pytest.fixture(scope="module")
def lab_of() -> Iterator[Labs]:
    with tempfile.TemporaryDirectory(prefix="btss-") as place, ExitStack() as ends:
        yield Labs(Path(place), ends)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failing test shows what its machines said."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, RunningLab | Labs):
                report.sections.append(("machines", value.all_logs()))
    return report
