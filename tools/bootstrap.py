"""Install what every other target of the Makefile needs; if that fails, print the remedy in one line.

``python3 -m tools.bootstrap uv FOLDER REQUIREMENTS`` makes a virtual environment with uv in it.
``python3 -m tools.bootstrap run COMMAND...`` runs a command that downloads packages. Standard library only.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BUILD = Path(".build")  # `make clean` removes it

# What pip and uv print when they cannot connect, and the reasons that they give.
UNREACHABLE = re.compile(r"connection broken by|Could not fetch URL|error sending request")
REASON = re.compile(r"cause: (.+)|\[(?:Errno -?\d+|SSL[^\]]*)\] ([^'\"()]+)")


class SetupError(RuntimeError):
    """The set-up failed. The message is what to print."""


def install_uv(folder: Path, requirements: Path) -> None:
    """Put a virtual environment with uv at ``folder``, complete or not at all. Raises ``SetupError``."""
    try:
        import ensurepip  # noqa: PLC0415, F401 - Debian leaves it out of its python3
        import venv  # noqa: PLC0415, F401
    except ImportError as missing:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupError(
            f"error: this Python {version} has no module {missing.name}; "
            f"install it (Debian and Ubuntu: apt-get install python{version}-venv)"
        ) from missing
    BUILD.mkdir(exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="uv-", dir=BUILD))
    try:
        download(sys.executable, "-m", "venv", str(unfinished))
        download(
            *(str(unfinished / "bin" / "python"), "-m", "pip", "install", "--quiet"),
            *("--disable-pip-version-check", "--require-hashes", "-r", str(requirements)),
        )
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def download(*command: str) -> None:
    """Run a command that may download packages. Raises ``SetupError``."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    printed = done.stdout + done.stderr
    if done.returncode == 0:
        sys.stderr.write(printed)
    elif UNREACHABLE.search(printed):
        *_, reason = ("no reason given", *(first or second for first, second in REASON.findall(printed)))
        raise SetupError(
            f"error: the package index cannot be reached ({reason.strip()}); "
            "check the network, the proxy (HTTPS_PROXY) and the certificate authorities (SSL_CERT_FILE)"
        )
    else:
        raise SetupError(printed.rstrip())


def main() -> int:
    """Run one of the two commands and return the exit status."""
    purpose, *arguments = sys.argv[1:]
    try:
        if purpose == "uv":
            folder, requirements = arguments
            install_uv(Path(folder), Path(requirements))
        else:
            download(*arguments)
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:  # for example a checkout that is read-only, or a full disk
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
