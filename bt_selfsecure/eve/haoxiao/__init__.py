"""What Eve makes of Hao and Xiao's protocol (paper 002): knowledge, verdict, attacks, scapy layer."""
