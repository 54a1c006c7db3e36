"""The entry point of ``gatekeeper-py`` and of ``python -m gatekeeper_py``."""

import sys


def main() -> None:
    """Run one command and exit with its code."""
    try:
        # Imported here, so that Ctrl-C while loading does not print a traceback.
        from gatekeeper_py.cli.main import run  # noqa: PLC0415

        code = run()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
