"""The media: one a file, all behind the same datagram interface."""
