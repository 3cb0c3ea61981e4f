"""The protocol, sans-IO: bytes and times in; bytes, events and deadlines out."""
