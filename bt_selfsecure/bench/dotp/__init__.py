"""D-OTP's object layer on the testbed: its ends, and the attacks on it."""
