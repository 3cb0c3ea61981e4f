"""`python -m bt_selfsecure` is the command `bt-selfsecure`."""

import sys

from bt_selfsecure.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
