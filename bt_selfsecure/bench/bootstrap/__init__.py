"""Kang's bootstrapping on the testbed: its three ends, the attacks on it, and who has the PSK."""
