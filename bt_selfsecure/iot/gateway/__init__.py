"""A gateway: between its devices and its cloud."""
