"""Keys of the node for other programs: files, WireGuard, OSCORE, CoAP's DTLS-PSK, IKEv2, and ETSI GS QKD 014."""
