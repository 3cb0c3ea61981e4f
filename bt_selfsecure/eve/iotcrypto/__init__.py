"""What Eve does against IoT-Crypto: she reads its public formats, and computes."""
