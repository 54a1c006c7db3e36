"""Assemble the image's root file system: Python, one virtualenv, what both load, and nothing else.

Run by the Dockerfile's build stage, with the Python that the image is to have:
``python3 rootfs.py VIRTUALENV COMMAND TARGET``. Works for a Python from Debian's packages and for one
below ``/usr/local``. What ends up in TARGET, at the same paths as in the base:

- the interpreter, and its standard library without what installs, builds or tests Python code;
- the virtualenv, with COMMAND and Python as its only programs;
- every shared library those load, as the dynamic loader itself resolves them;
- the few files of ``/etc`` that libc and OpenSSL read, and an unprivileged user;
- for scanners, the records and licences of the Debian packages that any of it came from;
- bytecode for all of it. It holds no time stamps and is never compared with the source: nothing
  could be written at run time, and what is not compiled here would be compiled at every start.

Standard library only.
"""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

USER = "nonroot:x:65532:65532:nonroot:/:/sbin/nologin"

LEFT_OUT = frozenset(
    {
        # Installs, builds, tests and teaches.
        "site-packages", "dist-packages", "ensurepip", "venv", "distutils", "lib2to3", "test", "idlelib",
        "turtledemo", "pydoc_data", "__pycache__",
        # Each brings a shared library that a server has no use for.
        "tkinter", "sqlite3", "curses", "dbm",
    }
)  # fmt: skip
"""Directories of the standard library that stay behind; so does Python's own build configuration."""

EXTENSIONS_LEFT_OUT = re.compile(
    r"(_tkinter|_sqlite3|_curses|_curses_panel|_dbm|_gdbm|readline|nis|xx|_test|_ctypes_test)"
)

CONFIGURATION = (
    "/etc/os-release",
    "/etc/ld.so.cache",  # leads the loader to libraries below /usr/local
    "/etc/nsswitch.conf",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/certs/ca-certificates.crt",
    "/usr/lib/ssl/openssl.cnf",
)


class Tree:
    """A growing copy of parts of this file system. ``taken`` holds the copied files' paths here."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self.taken: set[Path] = set()

    def take(self, path: Path) -> None:
        """Copy one file with every symbolic link on the way to it, or make a directory."""
        here = Path("/")
        parts = path.parts[1:]
        for position, part in enumerate(parts):
            here /= part
            if here.is_symlink():
                self._link(here)
                self.take(Path(os.path.normpath(here.parent / here.readlink()), *parts[position + 1 :]))
                return
        if path.is_dir():
            self._at(path).mkdir(parents=True, exist_ok=True)
        elif path not in self.taken:
            self._at(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, self._at(path))
            # Whatever the base's or an installer's idea was, only root could ever change it.
            self._at(path).chmod(path.stat().st_mode & 0o755)
            self.taken.add(path)

    def take_all(self, folder: Path, *, without: frozenset[str] = frozenset()) -> None:
        """Copy a directory, less the directories named."""
        for place, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if name not in without]
            for name in (*folders, *files):
                path = Path(place, name)
                if path.is_symlink() or name in files:
                    self.take(path)

    def write(self, path: str, content: str) -> None:
        """Make a file of our own."""
        file = self._at(Path(path))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")

    def _link(self, link: Path) -> None:
        copy = self._at(link)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.is_symlink():
            copy.symlink_to(link.readlink())

    def _at(self, path: Path) -> Path:
        return self._target / path.relative_to("/")


def main(virtualenv: Path, command: str, target: Path) -> None:
    """Fill ``target``."""
    tree = Tree(target)
    take_standard_library(tree)
    tree.take(virtualenv / "pyvenv.cfg")
    tree.take_all(virtualenv / "lib", without=frozenset({"__pycache__"}))
    for program in ("python", "python3", command):
        tree.take(virtualenv / "bin" / program)
    for library in shared_libraries(tree.taken):
        tree.take(library)
    for path in map(Path, CONFIGURATION):
        if path.exists():
            tree.take(path)
    tree.write("/etc/passwd", f"root:x:0:0:root:/:/sbin/nologin\n{USER}\n")
    tree.write("/etc/group", "root:x:0:\nnonroot:x:65532:\n")
    for package in sorted(packages(tree.taken)):
        # Where scanners look in an image without a package manager.
        tree.write(f"/var/lib/dpkg/status.d/{package}", output("dpkg-query", "--status", package))
        licence = Path("/usr/share/doc", package, "copyright")
        if licence.exists():
            tree.take(licence)
    # The paths in it are those of the image: they are what a traceback shows.
    if not compileall.compile_dir(
        target,
        maxlevels=64,
        stripdir=target,
        prependdir="/",
        quiet=1,
        workers=0,
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    ):
        raise SystemExit("some of it does not compile")


def take_standard_library(tree: Tree) -> None:
    """Copy what programs import; a Python in parts has its extension modules elsewhere."""
    for folder in {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}:
        build = {path.name for path in folder.glob("config-*")}
        extensions = folder / "lib-dynload"
        tree.take_all(folder, without=LEFT_OUT | build | {extensions.name})
        for extension in extensions.glob("*.so"):
            if not EXTENSIONS_LEFT_OUT.match(extension.name):
                tree.take(extension)


def shared_libraries(files: Iterable[Path]) -> Iterator[Path]:
    """What the loader finds for these files, itself included."""
    objects = [str(file) for file in files if is_elf(file)]
    listing = output("ldd", *objects)
    if "not found" in listing:
        raise SystemExit(f"a shared library is missing:\n{listing}")
    own = set(map(Path, objects))
    for match in re.finditer(r"^\s+(?:\S+ => )?(/\S+) \(0x", listing, re.MULTILINE):
        library = Path(os.path.normpath(match[1]))
        if library not in own:
            yield library


def is_elf(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def packages(files: Iterable[Path]) -> set[str]:
    """The Debian packages these files belong to; what is below /usr/local or /opt belongs to none."""
    own = {str(file) for file in files if not file.is_relative_to("/usr/local") and file.parts[1] != "opt"}
    # Packages older than Debian 13 list at /lib what is, links resolved, at /usr/lib.
    asked = own | {path.removeprefix("/usr") for path in own}
    found = subprocess.run(
        ["dpkg-query", "--search", *sorted(asked)],
        capture_output=True,
        text=True,
        check=False,  # 1 when one of the paths is unknown
    ).stdout
    lines = (line.rpartition(": ")[0] for line in found.splitlines() if not line.startswith("diversion "))
    return {name.partition(":")[0] for line in lines for name in line.split(", ")}


def output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
