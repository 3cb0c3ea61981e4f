"""Three words: a typo is found before anything is sent."""

from __future__ import annotations

import contextlib
import os
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.errors import UnreadableError
from bt_selfsecure.oob.words import COUNT, completions, drawn_words, read_words
from bt_selfsecure.word_list import WORDS


def test_the_words_are_64_and_three_letters_tell_each() -> None:
    assert len(WORDS) == 64 == len({word[:3] for word in WORDS})
    assert all(word.isascii() and word.islower() and word.isalpha() for word in WORDS)


def test_one_wrong_letter_makes_another_word_of_two_pairs_alone() -> None:
    """Of all others such a slip is found before a guess is spent."""
    near = [
        (one, other)
        for one, other in combinations(WORDS, 2)
        if len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1
    ]
    assert near == [("amber", "ember"), ("mango", "tango")]


def test_each_word_is_as_likely_as_each_other() -> None:
    drawn = [drawn_words(lambda count, value=value: bytes([value] * count)).split()[0] for value in range(256)]
    assert {drawn.count(word) for word in WORDS} == {4}


@given(st.lists(st.sampled_from(WORDS), min_size=COUNT, max_size=COUNT), st.integers(3, 8), st.sampled_from(" -,"))
def test_what_is_typed_in_capitals_cut_or_with_hyphens_is_what_was_shown(
    words: list[str], letters: int, between: str
) -> None:
    shown = " ".join(words)
    assert read_words(shown) == shown
    assert read_words(f"  {between.join(word[:letters] for word in words).upper()} ") == shown


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "there are 0"),
        ("otter panda", "there are 2"),
        ("otter panda radio zebra", "there are 4"),
        ("ottre panda radio", "'ottre' is none of our words, so nothing was sent: did you mean otter"),
        ("ot panda radio", "'ot' is none"),
        ("otter panda 123456", "'123456' is none of our words, so nothing was sent: look again"),
        ("otter panda radioo", "did you mean radio"),
    ],
)
def test_a_typo_is_found_and_the_nearest_word_named(typed: str, said: str) -> None:
    with pytest.raises(UnreadableError, match=said):
        read_words(typed)


@given(st.text(max_size=30))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(UnreadableError):
        assert read_words(text).split()


def test_completion_offers_the_words_that_begin_so() -> None:
    assert completions("o") == ["ocean", "olive", "onion", "opera", "otter"]
    assert completions("OTT") == ["otter"]
    assert len(drawn_words(os.urandom).split()) == COUNT
