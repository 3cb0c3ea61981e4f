"""D-OTP of Tsai et al. (paper 000), sans-IO: a key for each datagram, from a serial number that both ends hold."""
