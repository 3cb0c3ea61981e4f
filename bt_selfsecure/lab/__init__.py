"""Virtual Pis: the real Linux kernel, BlueZ and systemd in QEMU machines, on the project's one air."""
