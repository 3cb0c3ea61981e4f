"""Keys from the packets that the radio loses: the Hao-Xiao protocol, its air, its Eve and its figures."""

__version__ = "0.1.0"
