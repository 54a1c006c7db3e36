"""The command line: verbs, exit codes, and how errors are shown."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import click

from gatekeeper_py.commands.audit import audit
from gatekeeper_py.commands.check import check
from gatekeeper_py.commands.control import control
from gatekeeper_py.commands.explain import explain
from gatekeeper_py.commands.review import review
from gatekeeper_py.commands.schema import schema
from gatekeeper_py.commands.serve import serve
from gatekeeper_py.commands.version import version

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141  # what a shell shows for SIGPIPE


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Let a cluster run only images from approved registries."""


for command in (audit, check, control, explain, review, schema, serve, version):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; answers the exit code. Never a traceback for what a user can do wrong."""
    try:
        code = cli.main(args=arguments, prog_name="gatekeeper-py", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as problem:
        problem.show()
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # The reader of our output left (`| head`). Click makes that an exit with 1, which here
        # would mean that an image was rejected; it exits for nothing else in this mode.
        _discard_output()
        return EXIT_BROKEN_PIPE
    except OSError as problem:
        if problem.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            raise
        _discard_output()
        click.echo(f"Error: cannot write: {problem.strerror}", err=True)
        return EXIT_USAGE
    return int(code or 0)


def _discard_output() -> None:
    """Keep the interpreter from trying once more at exit, and from complaining."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
