"""Fixtures of the session's stories."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from session_pair import EVERY_W, Pair

from bt_selfsecure.protocols.haoxiao.events import ReestablishNeeded
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig


@pytest.fixture(params=Profile, ids=lambda profile: profile.label)
def profile(request: pytest.FixtureRequest) -> Profile:
    return request.param


@pytest.fixture
def pair(profile: Profile) -> Iterator[Pair]:
    pair = Pair(profile, SessionConfig())
    yield pair
    assert not pair.alice.told(ReestablishNeeded)


@pytest.fixture
def pair_w(profile: Profile) -> Pair:
    return Pair(profile, EVERY_W)
