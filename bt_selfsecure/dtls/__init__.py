"""DTLS 1.2 with a pre-shared key (RFC 6347, RFC 4279), sans-IO: the system's libssl between two pieces of memory."""
