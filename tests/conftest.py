"""For all tests: hypothesis judges results and not the computer's speed; that is what benchmarks/ is for."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("bt-selfsecure", deadline=None, print_blob=True)
settings.load_profile("bt-selfsecure")
