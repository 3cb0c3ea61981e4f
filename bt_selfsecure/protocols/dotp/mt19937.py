"""The Mersenne Twister MT19937 (Matsumoto and Nishimura 1998): the generator of our `paper` profile, and no secret."""

from __future__ import annotations

from typing import Final

_N, _M = 624, 397
_UPPER, _LOWER, _WORD = 0x80000000, 0x7FFFFFFF, 0xFFFFFFFF


class Mt19937:
    """Draws the sequence that begins with a seed of 32 bits, as `init_genrand` of the authors and std::mt19937 have
    it."""

    def __init__(self, seed: int) -> None:
        state = [seed & _WORD]
        for i in range(1, _N):
            state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + i) & _WORD)
        self._state: Final = state
        self._next = _N

    def word(self) -> int:
        """Return the next 32 bits."""
        state = self._state
        if self._next == _N:
            for i in range(_N):
                y = state[i] & _UPPER | state[(i + 1) % _N] & _LOWER
                state[i] = state[(i + _M) % _N] ^ y >> 1 ^ (0x9908B0DF if y & 1 else 0)
            self._next = 0
        y = state[self._next]
        self._next += 1
        y ^= y >> 11
        y ^= y << 7 & 0x9D2C5680
        y ^= y << 15 & 0xEFC60000
        return y ^ y >> 18

    def bits(self, count: int) -> int:
        """Return that many bits, up to 32 from one word (its upper ones), up to 64 from two, the first above."""
        if count <= 32:
            return self.word() >> 32 - count
        return (self.word() << 32 | self.word()) >> 64 - count
