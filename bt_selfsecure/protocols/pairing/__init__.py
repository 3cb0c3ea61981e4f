"""Pairing: two devices get an authentication key of their own from what a person carries from one to the other."""
