"""One folder a paper; none knows another."""
