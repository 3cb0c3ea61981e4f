"""One medium a file, all behind the same datagram interface."""
