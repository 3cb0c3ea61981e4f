"""The service: the only user of the event loop's clock. It drives the core over bearers, and keeps what must last."""
