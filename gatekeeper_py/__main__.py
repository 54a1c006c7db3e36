"""``python -m gatekeeper_py``."""

from gatekeeper_py.cli import main

main()
