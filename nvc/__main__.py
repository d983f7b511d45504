"""``python -m nvc``."""

import sys

from nvc.cli import main

if __name__ == "__main__":
    sys.exit(main())
