"""The command line: commands, exit codes, and how errors are printed."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from keyword import iskeyword
from typing import TYPE_CHECKING, Final, TextIO

import click

from gatekeeper_py import DISTRIBUTION, __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

MAX_MISSPELT: Final = 60
"""Characters of an unknown command that are compared with the known ones."""

EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141  # what a shell shows for SIGPIPE

SECTIONS: Final = {
    "Write a policy": {
        "check": "Report every problem of a policy.",
        "explain": "Show which rule of a policy decides on an image.",
        "review": "Judge manifests as the webhook would, for CI.",
        "test": "Run the tests of a policy.",
        "diff": "Show what a change of the policy would do.",
        "except": "Write an exception for an image, for a limited time.",
        "schema": "Print a JSON Schema, for editors.",
    },
    "Look at a cluster": {
        "audit": "List the running images that a policy would refuse.",
        "status": "Show whether an installation is healthy.",
    },
    "Run the webhook": {
        "serve": "Run the webhook server.",
        "control": "Run the controller, which keeps the webhook installed.",
        "compile": "Compile a policy for the API server to evaluate.",
    },
    "Others": {
        "version": "Print the version.",
    },
}
"""The commands as ``--help`` groups them. Each is a module in ``gatekeeper_py.cli.commands`` that defines a
command of the same name. A function cannot have the name of a keyword, so ``except_`` has a ``_``."""

COMMANDS: Final = {name: summary for group in SECTIONS.values() for name, summary in group.items()}

OTHER_NAMES: Final = {
    "help": "gatekeeper-py --help",
    "validate": "check",
    "lint": "check",
    "verify": "check",
    "scan": "audit",
    "compare": "diff",
}
"""What to use instead of commands that similar programs have."""


class _Commands(click.Group):
    """Imports only the command that is run. ``--help`` and completion import none."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, group in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), summary) for name, summary in group.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - keeps commands fast to start

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=COMMANDS[name]) for name in names), *options]

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        function = f"{name}_" if iskeyword(name) else name
        # Code that is being loaded leaves no garbage, so collections would only take time.
        gc.disable()
        try:
            module = import_module(f"gatekeeper_py.cli.commands.{name}")
        finally:
            gc.enable()
        command: click.Command = getattr(module, function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415 - see above

            known = OTHER_NAMES.get(name) or next(
                iter(get_close_matches(name[:MAX_MISSPELT], COMMANDS, n=1)), ""
            )
            proposal = f" Did you mean {known!r}?" if known else ""
            ctx.fail(f"No such command {name!r}.{proposal}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: gatekeeper-py check policy.yaml. COMMAND --help describes every option.",
)
@click.version_option(
    __version__,
    message=f"%(prog)s %(version)s ({DISTRIBUTION})",
    help="Print the version and the name of the Python package, and exit.",
)
def cli() -> None:
    """Let a Kubernetes cluster run only images from approved registries."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Mistakes of the user never cause a traceback."""
    if sys.stdout is None:
        # Python starts with no stdout when the caller closed it. Exit code 1 would mean "some rejected".
        _print_error("cannot write: standard output is closed")
        return EXIT_USAGE
    if isinstance(sys.stdout, TextIOWrapper):
        # A character that the encoding of stdout lacks must not cause exit code 1 either.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(args=arguments, prog_name="gatekeeper-py", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as problem:
        _show(problem)
        return EXIT_USAGE
    except (MemoryError, RecursionError) as problem:
        reason = "out of memory" if isinstance(problem, MemoryError) else "the input is nested too deeply"
        _print_error(reason)
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # The reader of our output has closed the pipe (`| head`). Click turns that into exit code 1, which
        # here would mean that an image was rejected. It raises SystemExit for nothing else in this mode.
        _discard(sys.stdout)
        return EXIT_BROKEN_PIPE
    except OSError as problem:
        if problem.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            raise
        _discard(sys.stdout)
        _print_error(f"cannot write: {problem.strerror}")
        return EXIT_USAGE
    return int(code or 0)


def _show(problem: click.ClickException) -> None:
    """Print an error on one line, or the help if there is no command."""
    from gatekeeper_py.cli.reporting.console import harmless  # noqa: PLC0415 - keeps commands fast to start

    if not isinstance(problem, click.exceptions.NoArgsIsHelpError):
        problem.message = harmless(problem.message)  # type: ignore[misc]
    try:
        problem.show()
    except OSError:
        _discard(sys.stderr)


def _print_error(problem: str) -> None:
    """Print an error if standard error is writable."""
    _show(click.ClickException(problem))


def _discard(stream: TextIO) -> None:
    """Prevent the interpreter from writing to a stream again at exit and reporting an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
