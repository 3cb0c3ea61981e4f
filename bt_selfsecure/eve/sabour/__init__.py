"""What Eve makes of Sabour's handshake (paper 001)."""
