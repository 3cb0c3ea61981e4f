"""Virtual Pis: the real Linux kernel, BlueZ and systemd, on the project's one air."""
