"""Attacks on pairing: she has what is public, what she heard, and what she guesses."""
