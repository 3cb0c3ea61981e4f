"""What Eve makes of D-OTP (paper 000): the serial number from one key, and with it every other key."""
