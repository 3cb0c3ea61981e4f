"""The papers: one folder each; none knows another."""
