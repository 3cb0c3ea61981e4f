"""Hao and Xiao's bursts on the air, many at once."""
