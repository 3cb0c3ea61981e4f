"""For all tests: hypothesis judges results and not the computer's speed; that is what benchmarks/ is for."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("whole", deadline=None, print_blob=True, max_examples=100)
settings.register_profile("fast", settings.get_profile("whole"), max_examples=25)
settings.load_profile("whole")


def pytest_configure(config: pytest.Config) -> None:
    """A run that leaves the long tests out has a part of the examples, too: see `amounts.py`."""
    if "not long" in config.option.markexpr:
        settings.load_profile("fast")


@pytest.fixture(scope="session")
def loopback_host() -> str:
    """A loopback address of this process alone: all UDP ports there are free."""
    return f"127.{64 + (os.getpid() >> 16 & 63)}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
