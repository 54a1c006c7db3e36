"""Build the control plane, or run a command beside it: ``python3 -m tools.controlplane --help``.

Standard library only: it runs before there is a virtualenv.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from tools.controlplane import build, network


def main() -> int:
    """Run one of the commands and return the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.controlplane", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, purpose in (
        ("build", "build the binaries unless they are cached, and print their directory"),
        ("path", "print the directory of the binaries; fail if they are not built"),
    ):
        command = commands.add_parser(name, help=purpose)
        command.add_argument(
            "--oldest",
            action="store_true",
            help="use the oldest supported Kubernetes instead of the newest",
        )
    isolate = commands.add_parser("isolate", help="run a command in a network namespace of its own")
    isolate.add_argument(
        "argv", nargs=argparse.REMAINDER, metavar="COMMAND", help="command and its arguments"
    )
    arguments = parser.parse_args()
    if arguments.command == "isolate":
        if not arguments.argv:
            isolate.error("COMMAND is missing")
        return network.main(arguments.argv)
    find = build.build if arguments.command == "build" else build.cached
    return build.main(partial(find, oldest=arguments.oldest))


if __name__ == "__main__":
    sys.exit(main())
