from __future__ import annotations

import pytest

from bt_selfsecure.look import counted


@pytest.mark.parametrize(("number", "said"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1730, "1,730 runs")])
def test_one_is_not_several(number: int, said: str) -> None:
    assert counted(number, "run") == said
