"""What Eve does to pairing."""
