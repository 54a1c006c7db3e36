"""Build Helm unless it is cached, and print the directory of helm3 and helm4: ``python3 -m tools.helm``."""

from __future__ import annotations

import sys

from tools.gobuild import main
from tools.helm.build import PROGRAMS

if __name__ == "__main__":
    sys.exit(main(PROGRAMS.build))
