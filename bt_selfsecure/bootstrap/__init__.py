"""Kang's bootstrapping as services: a server, controllers, and nodes that join; their state, and the peers of it."""
