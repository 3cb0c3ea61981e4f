"""A device: it reads sensors, does what it is told, and tells of its own accord."""
