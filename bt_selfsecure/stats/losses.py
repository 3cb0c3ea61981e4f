"""What the losses are worth: joint losses of Bob and Eve, bounds with confidence, secret bits.

Symbols: d = P(Bob misses), e = P(Eve misses), e|B = P(Eve misses, given that Bob received), rho = correlation of the
two losses, N packets sent, S the set that Bob kept, k = packets in S that Eve lacks, L = bits of a packet.

Secrecy rests on e|B alone. Bob's own loss costs only time, and a loss that Bob and Eve share is worth nothing.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Self

from bt_selfsecure.errors import UsageError
from bt_selfsecure.stats.bursts import GilbertElliottFit as GilbertElliottFit  # of the public module, too

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set

KEY_BITS = 256
"""K0 is a SHA-256 digest [7]: no key is worth more."""
_ROUNDING = 1e-12


def require_probability(what: str, value: float) -> float:
    """Return `value` if it lies in 0..1; else raise `UsageError` that names `what`."""
    if not 0 <= value <= 1:
        raise UsageError(f"{what} is {value:g}, but a probability lies in 0..1: give 0.1 for 10 %")
    return value


# --- Closed forms -----------------------------------------------------------------------------------------------------


class JointProbabilities(NamedTuple):
    """Says what happens to one packet: four probabilities that sum to 1."""

    both: float
    bob_only: float
    eve_only: float
    neither: float


def joint_probabilities(d: float, e: float, rho: float = 0.0) -> JointProbabilities:
    """Return the joint distribution of two losses with means d and e and correlation coefficient rho.

    P(neither hears) = d e + rho sqrt(d (1-d) e (1-e)); the other three follow from the means. Not every rho is possible
    (Frechet's bounds): UsageError with the range that is.
    """
    require_probability("Bob's loss d", d)
    require_probability("Eve's loss e", e)
    spread = math.sqrt(d * (1 - d) * e * (1 - e))
    neither = d * e + rho * spread
    least, most = max(0.0, d + e - 1), min(d, e)
    if rho and not spread:
        raise UsageError(f"losses of d={d:g} and e={e:g} do not both vary, so they have no correlation: take rho=0")
    if not least - _ROUNDING <= neither <= most + _ROUNDING:
        low, high = (least - d * e) / spread, (most - d * e) / spread
        raise UsageError(f"losses of d={d:g} and e={e:g} can't have rho={rho:g}: take {low:.4f} <= rho <= {high:.4f}")
    neither = min(max(neither, least), most)
    return JointProbabilities(max(0.0, 1 - d - e + neither), e - neither, d - neither, neither)


def colluding_probabilities(one: JointProbabilities, eves: int) -> JointProbabilities:
    """Return the same for Eves who put together what they heard, each with the joint distribution `one` of Bob and her.

    What became of a packet at Bob tells how likely each Eve is to miss it; given that, they miss it independently.
    """
    received, lost = one.both + one.bob_only, one.eve_only + one.neither
    bob_only = received * (one.bob_only / received) ** eves if received else 0.0
    neither = lost * (one.neither / lost) ** eves if lost else 0.0
    return JointProbabilities(received - bob_only, bob_only, lost - neither, neither)


def capacity(d: float, e: float, rho: float = 0.0) -> float:
    """Return the secret-key capacity of the packet-erasure broadcast with public feedback, in packets per packet.

    max I(X;Y|Z) = P(Bob hears, Eve misses) = (1-d) e|B (Maurer 1993; Ahlswede and Csiszar 1993). Times L for bits.
    """
    return joint_probabilities(d, e, rho).bob_only


def e_given_bob(d: float, e: float, rho: float = 0.0) -> float:
    """Return e|B = e - rho sqrt(d e (1-e) / (1-d)). UsageError if d = 1: then Bob receives nothing."""
    if d == 1:
        raise UsageError("Bob misses every packet (d=1), so nothing is known of what Eve misses among his: take d < 1")
    return capacity(d, e, rho) / (1 - d)


# --- Measured ---------------------------------------------------------------------------------------------------------


class JointLoss(NamedTuple):
    """Is the 2x2 table of one burst, in packets: who heard what. An empty margin always counts against secrecy."""

    both: int
    bob_only: int
    """k: packets in S that Eve lacks."""
    eve_only: int
    neither: int

    @classmethod
    def of(cls, sent: int, bob: Set[int], eve: Set[int]) -> Self:
        """Return the table of packets 0..sent-1; `bob` and `eve` received these. UsageError where one has any other."""
        if strangers := sorted(seq for seq in bob | eve if not 0 <= seq < sent):
            raise UsageError(f"packet {strangers[0]} was received but not sent: count all {sent} packets from 0")
        return cls(len(bob & eve), len(bob - eve), len(eve - bob), sent - len(bob | eve))

    @property
    def sent(self) -> int:
        """Return N, the packets sent."""
        return self.both + self.bob_only + self.eve_only + self.neither

    @property
    def received(self) -> int:
        """Return |S|, the packets that Bob received."""
        return self.both + self.bob_only

    @property
    def d(self) -> float:
        """Return P(Bob misses); 1 if nothing was sent."""
        return (self.eve_only + self.neither) / self.sent if self.sent else 1.0

    @property
    def e(self) -> float:
        """Return P(Eve misses); 0 if nothing was sent."""
        return (self.bob_only + self.neither) / self.sent if self.sent else 0.0

    @property
    def e_given_bob(self) -> float:
        """Return k / |S|; 0 if Bob received nothing. To plan a key on it, take `lower_bound(bob_only, received)`."""
        return self.bob_only / self.received if self.received else 0.0

    @property
    def capacity(self) -> float:
        """Return (1-d) e|B: packets that Bob has and Eve lacks, per packet sent."""
        return (1 - self.d) * self.e_given_bob

    @property
    def phi(self) -> float:
        """Return the correlation coefficient of the two losses, -1..1; undefined, and 0 here, where one never or always
        lost."""
        margins = (
            self.received
            * (self.eve_only + self.neither)
            * (self.both + self.eve_only)
            * (self.bob_only + self.neither)
        )
        return (self.both * self.neither - self.bob_only * self.eve_only) / math.sqrt(margins) if margins else 0.0

    @property
    def entropy_correlation(self) -> float:
        """Return the entropy correlation coefficient 2 I(X;Y) / (H(X) + H(Y)), 0..1; 0 where neither loss varies.

        0 is independent, 1 is the same information. Wang, Hassan and Moors (LCN 2010, 10.1109/LCN.2010.5735774) show
        why a conditional loss probability alone misleads. Some authors take the square root of this.
        """
        bob = _entropy(self.received, self.eve_only + self.neither)
        eve = _entropy(self.both + self.eve_only, self.bob_only + self.neither)
        joint = _entropy(self.both, self.bob_only, self.eve_only, self.neither)
        return max(0.0, 2 * (bob + eve - joint) / (bob + eve)) if bob + eve else 0.0


def _entropy(*counts: int) -> float:
    total = sum(counts)
    return -sum(count / total * math.log2(count / total) for count in counts if count)


def group_capacity(tables: Iterable[JointLoss]) -> float:
    """Return secret packets per packet sent for a key that a whole group shares: the least (1-d_i) e|B_i."""
    return min(table.capacity for table in tables)


def colluding(eves: Iterable[Set[int]]) -> set[int]:
    """Return what Eves who put their captures together hold: the union of their receptions."""
    return set().union(*eves)


# --- Confidence -------------------------------------------------------------------------------------------------------


def binomial_tail(k: int, n: int, p: float) -> float:
    """Return P(X >= k) for X ~ Binomial(n, p), summed away from the mean: only O(sqrt(n)) terms matter."""
    if k <= 0 or p >= 1:
        return 1.0 if k <= n else 0.0
    if k > n or p <= 0:
        return 0.0
    if k <= n * p:
        return 1 - binomial_tail(n - k + 1, n, 1 - p)
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return _sum_from(math.exp(choose + k * math.log(p) + (n - k) * math.log1p(-p)), k, n, p)


def _sum_from(term: float, k: int, n: int, p: float) -> float:
    """Return P(X >= k), above the mean; `term` is P(X = k)."""
    total, odds = term, p / (1 - p)
    for j in range(k, n):
        term *= (n - j) / (j + 1) * odds
        total += term
        if term <= total * 1e-17:
            break
    return total


def lower_bound(k: int, n: int, confidence: float = 0.95) -> float:
    """Return the one-sided Clopper-Pearson bound: what the true probability is at least, given k of n.

    It is the root p of P(X >= k) = 1 - confidence; 0 if k = 0 (so also if n = 0). A key may be planned on this, never
    on the mean. It supposes independent packets: losses that come in bursts (`GilbertElliottFit`) make it too high.
    """
    if not 0 <= k <= n:
        raise UsageError(f"{k} of {n} is not a count: give MISSED/HEARD with 0 <= MISSED <= HEARD, as in 45/450")
    if not 0.5 <= confidence < 1:
        raise UsageError(f"a confidence of {confidence:g} is not useful: take 0.5 <= confidence < 1, as in 0.95")
    if k == 0:
        return 0.0
    return float((1 - confidence) ** (1 / n)) if k == n else _bound(k, n, confidence)


@lru_cache(maxsize=1 << 16)
def _bound(k: int, n: int, confidence: float) -> float:
    """Return `lower_bound` for 0 < k < n: a record asks for the same few again and again."""
    choose = math.lgamma(n + 1) - math.lgamma(k) - math.lgamma(n - k + 1)
    low, high, p = 0.0, k / n, _wilson_low(k, n, confidence)
    while low < p < high:
        slope = math.exp(choose + (k - 1) * math.log(p) + (n - k) * math.log1p(-p))
        tail = _sum_from(slope * p / k, k, n, p)
        low, high = (p, high) if tail < 1 - confidence else (low, p)
        step = _halley(tail, slope, (k - 1) / p - (n - k) / (1 - p), 1 - confidence) if slope else p
        if abs(step) < 1e-6 * p:  # what is left is of its third power
            return p - step
        p = p - step if low < p - step < high else (low + high) / 2
    return low


def _halley(tail: float, slope: float, bend: float, wanted: float) -> float:
    """Return the step down to where the tail's logarithm is that of `wanted`; `bend` is the logarithmic derivative of
    the slope."""
    relative = slope / tail
    newton = math.log(tail / wanted) / relative
    return newton / max(0.5, 1 - newton * (bend - relative) / 2)


def _wilson_low(k: int, n: int, confidence: float) -> float:
    """Return what is near the bound: Wilson's, corrected for continuity (Newcombe, Stat. Med. 17, 1998, no. 4)."""
    z = _normal_quantile(confidence)
    root = math.sqrt(max(0.0, z * z - 2 - 1 / n + 4 * k / n * (n - k + 1)))
    low = (2 * k + z * z - 1 - z * root) / (2 * (n + z * z))
    return low if 0 < low < k / n else k / n / 2


@lru_cache
def _normal_quantile(probability: float) -> float:
    from statistics import NormalDist  # a third of what importing this module would take

    return NormalDist().inv_cdf(probability)


def _near_quantile(probability: float) -> float:
    """Return what is within 4.5e-4 of the normal quantile, to begin a search at (Abramowitz and Stegun, 26.2.23): the
    module that has it takes a sixth of what Python takes to start."""
    t = math.sqrt(-2 * math.log(min(probability, 1 - probability)))
    z = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)))
    return z if probability > 0.5 else -z


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided exact binomial interval (Clopper and Pearson, Biometrika 26, 1934); (0, 1) if n = 0.

    Zero misses in n give an upper bound of about 3/n at a one-sided 95 %, 3.7/n here.
    """
    one_sided = (1 + confidence) / 2
    return lower_bound(k, n, one_sided), 1 - lower_bound(n - k, n, one_sided)


def packets_to_send(needed: int, d: float, probability: float = 0.99) -> int:
    """Return the smallest N of which Bob, who misses a share d, keeps `needed` or more with this probability."""
    require_probability("Bob's loss d", d)
    if needed < 0:
        raise UsageError(f"{needed} packets are no count: give 0 or more")
    if d == 1 or not 0 < probability < 1:
        raise UsageError(f"with a loss of {d:g} at Bob no number of packets is enough: take a loss below 1")

    def enough(packets: int) -> bool:
        return binomial_tail(needed, packets, 1 - d) >= probability

    spread = _near_quantile(probability) * math.sqrt(d * (1 - d)) / 2
    near = ((spread + math.sqrt(spread * spread + (1 - d) * max(0.0, needed - 0.5))) / (1 - d)) ** 2
    low, high, step = needed - 1, max(1, needed, round(near)), 1
    while not enough(high):
        low, high, step = high, high + step, 2 * step
    while low < high - step and enough(high - step):
        high, step = high - step, 2 * step
    return bisect_left(range(high), True, lo=max(low, high - step) + 1, key=enough)


# --- Secret bits ------------------------------------------------------------------------------------------------------


def bits_per_packet(e_given_bob: float) -> float:
    """Return -log2(1 - e|B): what one packet in S adds to the work of an Eve who must hold them all."""
    require_probability("Eve's loss e|B", e_given_bob)
    return math.inf if e_given_bob == 1 else -math.log1p(-e_given_bob) / math.log(2)


def secret_bits(received: int, e_given_bob: float, *, missed_entropy: float | None = None) -> float:
    """Return how hard K0 is for Eve: -log2 P(she holds all of S) = |S| * -log2(1 - e|B), independent packets.

    Never above 256, nor above `missed_entropy` (bits), where what she lacks is known: see the function of that name.
    """
    if received < 0:
        raise UsageError(f"{received} packets are no count: give 0 or more")
    bits = received * bits_per_packet(e_given_bob) if received else 0.0
    return min(bits, KEY_BITS, math.inf if missed_entropy is None else missed_entropy)


def packets_needed(target_bits: float, e_given_bob: float) -> int:
    """Return the smallest |S| with `secret_bits(|S|, e|B) >= target_bits`. UsageError if no burst reaches it."""
    if not 0 < target_bits <= KEY_BITS:
        raise UsageError(
            f"a target of {target_bits:g} secret bits can't be met: K0 has {KEY_BITS}, so take 1..{KEY_BITS}"
        )
    if bits_per_packet(e_given_bob) <= KEY_BITS / sys.float_info.max:  # nothing, or a share that no figure can follow
        raise UsageError(
            "an Eve who misses nothing knows every key: measure a loss above 0 first (more packets, or farther)"
        )
    received = max(1, math.floor(target_bits / bits_per_packet(e_given_bob)))
    return received if secret_bits(received, e_given_bob) >= target_bits else received + 1


def guess_space(flipped: int, packet_bits: int) -> float:
    """Return log2 of the packets within `flipped` bit errors of a damaged copy: log2(C(L,0) + ... + C(L,flipped)).

    What Eve has yet to guess of it, at most L. 1 error in 512 bits: 9 bits; 2: 17; 4: 31.4; 8: 56.6. The HMAC of rsp
    [9] tells her when she is right. It is an upper bound: errors that cluster leave her less to try.
    """
    return math.log2(sum(math.comb(packet_bits, t) for t in range(min(flipped, packet_bits) + 1)))


def repair_work(flipped: Iterable[int], packet_bits: int) -> float:
    """Return log2 of the tries that make all damaged copies good; -inf without any. Each is given as the most bits that
    are flipped in it.

    Every packet has a check of its own, which tells by itself when a copy is right: so the tries of the copies add, and
    a hundred copies are seven bits more than one, not a hundred times its bits.
    """
    tries = sum(2 ** guess_space(t, packet_bits) for t in flipped)
    return math.log2(tries) if tries else -math.inf


def count_heard(intact: Set[int], damaged: Mapping[int, int], *, packet_bits: int, work_bits: float = 80.0) -> set[int]:
    """Return the Seq that count as heard by Eve: those that came intact, and those of which she has a damaged copy that
    she can make good with 2^`work_bits` tries. `damaged` has the most bits that are flipped in each copy, by Seq.
    """
    return {*intact, *(seq for seq, flipped in damaged.items() if guess_space(flipped, packet_bits) <= work_bits)}


def missed_entropy(missed: int, *, packet_bits: int) -> float:
    """Return the bits of entropy in what Eve lacks of S, a packet holding `packet_bits` random bits that nothing tells.

    `missed` packets of which she has no copy at all: one that is damaged she makes good (`count_heard`): it has none.
    """
    return float(missed * packet_bits)
