"""Hao and Xiao's protocol on the testbed: its ends, the attacks on it, and what its naive reading costs."""
