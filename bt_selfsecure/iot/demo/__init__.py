"""A network on one computer: a company with a cloud, a gateway and three devices, one process each."""
