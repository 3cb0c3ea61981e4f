"""How many packets make a key, at the losses that I have measured? A notebook in cells (`# %%`), or run it as it is:

    python examples/planner.py

Each cell asks one question. Put your own counts into the first; `bt-selfsecure plan` answers the same from a terminal.
"""

# %% What was measured: a thousand packets were sent, and three receivers wrote down which they heard.
# Of losses that are counted for each receiver alone nothing follows: only *which* packets, side by side, tells.
from random import Random
from signal import SIG_DFL, SIGPIPE, signal

from bt_selfsecure import losses

if "__file__" in globals():  # as a program, and not in a notebook: `| head` ends it without a word
    signal(SIGPIPE, SIG_DFL)

SENT = 1000
chance = Random(1)  # in place of your three receivers
bob = {seq for seq in range(SENT) if chance.random() >= 0.10}
eve = {seq for seq in range(SENT) if chance.random() >= 0.07}
friend = {seq for seq in range(SENT) if chance.random() >= 0.20}  # of Eve, at another place

# %% What Eve misses of *Bob's* packets is the only loss that keeps a secret: e|B.
missed = len(bob - eve)
print(f"Bob heard {len(bob)} of {SENT}. Eve misses {missed} of these: e|B is {missed / len(bob):.1%}.")

# %% A measurement can be lucky, so a key is planned on what is true with 95 % confidence: a lower bound.
bound = losses.lower_bound(missed, len(bob), 0.95)
print(f"It is at least {bound:.1%} (Clopper and Pearson, one-sided).")

# %% How many packets must Bob keep, and Alice send, for so many secret bits?
# Eve has the key only if she has every packet of it: (1 - e|B)^|S|. Bob's own loss d costs time and nothing else.
d = 1 - len(bob) / SENT
for bits in (40, 80, 128, 256):
    keep = losses.packets_needed(bits, bound)
    send = losses.packets_to_send(keep, d, 0.99)
    print(f"{bits:4} bits: Bob keeps {keep:5}, Alice sends {send:5}, at 10 ms a packet {send / 100:5.1f} s")

# %% And if Eve has a friend? Together they miss what both miss. Multiplying their losses would suppose that these are
# independent, so it is counted here, too: receivers side by side tend to miss the same packets.
together = bob - losses.colluding([eve, friend])
bound_of_two = losses.lower_bound(len(together), len(bob), 0.95)
print(f"Two of them miss {len(together)} of {len(bob)} together: at least {bound_of_two:.2%}.")
alone, now = (losses.packets_needed(128, share) for share in (bound, bound_of_two))
print(f"128 bits now take {now} packets instead of {alone}.")

# %% The other way round: what was a burst of 400 worth, if Bob kept 360 of it?
for who, share in (("Eve alone", bound), ("both", bound_of_two)):
    print(f"360 packets against {who}: {losses.secret_bits(360, share):.1f} secret bits")

# %% What it is not: an Eve who was never measured, who is nearer or has more receivers, misses less. And losses that
# come in bursts make all of these figures too good: `bt-selfsecure sweep` tests for that, and judges each place alone.
