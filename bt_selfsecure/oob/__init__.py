"""Out-of-band channels, one a file: what a person or a device carries from one end to the other, and how it is read."""
