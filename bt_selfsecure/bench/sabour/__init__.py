"""Sabour's handshake on the testbed: its ends, and the attacks on it."""
