"""A peer with whom keys are agreed on from lost packets (paper 002), and the session with it."""
