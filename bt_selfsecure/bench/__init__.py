"""One testbed for attacks and costs of the protocols: real endpoints, Eves with taps, and the truth."""
