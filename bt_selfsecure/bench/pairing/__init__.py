"""Attacks on pairing, with real endpoints."""
