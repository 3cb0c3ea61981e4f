"""The daemon: the only user of the event loop's clock. It drives protocols over bearers, and keeps what must last."""
