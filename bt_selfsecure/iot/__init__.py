"""IoT-Crypto's services, device and gateway, and what both need: files, sockets, DTLS around the machines."""
