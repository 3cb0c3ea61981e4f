"""For all tests: hypothesis judges results and not the computer's speed; that is what benchmarks/ is for."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("bt-selfsecure", deadline=None, print_blob=True)
settings.load_profile("bt-selfsecure")


@pytest.fixture(scope="session")
def loopback_host() -> str:
    """A loopback address of this process alone: all UDP ports there are free."""
    return f"127.{64 + (os.getpid() >> 16 & 63)}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
