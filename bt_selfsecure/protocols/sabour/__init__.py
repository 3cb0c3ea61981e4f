"""Sabour, *Lightweight Secure CoAP for Internet of Things*: a handshake of four messages, as written and mended."""
