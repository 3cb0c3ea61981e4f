"""The eavesdropper: what Eve knows and what she tries. She gets only what her tap received."""
