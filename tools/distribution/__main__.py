"""Build the registry unless it is cached, and print its directory: ``python3 -m tools.distribution``."""

from __future__ import annotations

import sys

from tools.distribution.build import PROGRAMS
from tools.gobuild import main

if __name__ == "__main__":
    sys.exit(main(PROGRAMS.build))
