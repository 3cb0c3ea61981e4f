"""A group: its owner speaks to all members by one broadcast, and repairs in private what one of them missed."""
