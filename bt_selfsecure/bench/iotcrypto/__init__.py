"""Attacks on IoT-Crypto, carried out on the real machines, and its figures."""
