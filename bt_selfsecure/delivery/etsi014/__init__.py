"""Keys by ETSI GS QKD 014 V1.1.1 (REST): a key management entity (KME) on each of two nodes, for applications (SAE)."""
