"""Pairing in the node: its links, the driver of `protocols/pairing`, and the peer that comes of it."""
