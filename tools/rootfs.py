"""Assemble the root file system of the image: Python, one virtualenv, the libraries of both, nothing else.

The Dockerfile's build stage runs it with the Python that goes into the image:
``python3 rootfs.py VIRTUALENV COMMAND TARGET``. It works for Python from Debian's packages and for Python
below ``/usr/local``. TARGET receives, at the same paths as in the base:

- the interpreter and its standard library, without the parts that install, build or test Python code;
- the virtualenv, with COMMAND and Python as its only programs;
- every shared library that these load, as the dynamic loader resolves it;
- the few files of ``/etc`` that libc and OpenSSL read, and an unprivileged user;
- for scanners, the records and licences of the Debian packages that the files came from;
- bytecode of all modules, without time stamps and without a check against the source. The file system is
  read-only at run time, so a module that is not compiled here would be compiled at every start.

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
        # These modules install, build, test or teach.
        "site-packages", "dist-packages", "ensurepip", "venv", "distutils", "lib2to3", "test", "idlelib",
        "turtledemo", "pydoc_data", "__pycache__",
        # Each of these needs a shared library that a server does not use.
        "tkinter", "sqlite3", "curses", "dbm",
    }
)  # fmt: skip
"""Directories of the standard library that are not copied. Python's build configuration is left out too."""

EXTENSIONS_LEFT_OUT = re.compile(
    r"(_tkinter|_sqlite3|_curses|_curses_panel|_dbm|_gdbm|readline|nis|xx|_test|_ctypes_test)"
)

CONFIGURATION = (
    "/etc/os-release",
    "/etc/ld.so.cache",  # names the libraries below /usr/local for the loader
    "/etc/nsswitch.conf",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/certs/ca-certificates.crt",
    "/usr/lib/ssl/openssl.cnf",
)


class Tree:
    """A copy of parts of this file system. ``copied`` holds the original paths of the copied files."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self.copied: set[Path] = set()

    def copy(self, path: Path) -> None:
        """Copy a file, with every symbolic link on the way to it, or make a directory."""
        here = Path("/")
        parts = path.parts[1:]
        for position, part in enumerate(parts):
            here /= part
            if here.is_symlink():
                self._link(here)
                self.copy(Path(os.path.normpath(here.parent / here.readlink()), *parts[position + 1 :]))
                return
        if path.is_dir():
            self._at(path).mkdir(parents=True, exist_ok=True)
        elif path not in self.copied:
            self._at(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, self._at(path))
            # Only root may change a file, even if the base or an installer gave it another mode.
            self._at(path).chmod(path.stat().st_mode & 0o755)
            self.copied.add(path)

    def copy_all(self, folder: Path, *, without: frozenset[str] = frozenset()) -> None:
        """Copy a directory, except subdirectories with these names."""
        for place, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if name not in without]
            for name in (*folders, *files):
                path = Path(place, name)
                if path.is_symlink() or name in files:
                    self.copy(path)

    def write(self, path: str, content: str) -> None:
        """Write a new file."""
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
    """Fill ``target`` with the root file system."""
    tree = Tree(target)
    copy_standard_library(tree)
    tree.copy(virtualenv / "pyvenv.cfg")
    tree.copy_all(virtualenv / "lib", without=frozenset({"__pycache__"}))
    for program in ("python", "python3", command):
        tree.copy(virtualenv / "bin" / program)
    for library in shared_libraries(tree.copied):
        tree.copy(library)
    for path in map(Path, CONFIGURATION):
        if path.exists():
            tree.copy(path)
    tree.write("/etc/passwd", f"root:x:0:0:root:/:/sbin/nologin\n{USER}\n")
    tree.write("/etc/group", "root:x:0:\nnonroot:x:65532:\n")
    for package in sorted(packages(tree.copied)):
        # Scanners look here in an image without a package manager.
        tree.write(f"/var/lib/dpkg/status.d/{package}", output("dpkg-query", "--status", package))
        licence = Path("/usr/share/doc", package, "copyright")
        if licence.exists():
            tree.copy(licence)
    # Bytecode names the paths of the image, because tracebacks show them.
    if not compileall.compile_dir(
        target,
        maxlevels=64,
        stripdir=target,
        prependdir="/",
        quiet=1,
        # One process compiles all modules in order. The bytecode depends on the modules compiled before it
        # in the same process, so several processes would make every build different.
        workers=1,
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    ):
        raise SystemExit("some modules do not compile")


def copy_standard_library(tree: Tree) -> None:
    """Copy the standard library, whose extension modules can be in a directory of their own."""
    for folder in {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}:
        build = {path.name for path in folder.glob("config-*")}
        extensions = folder / "lib-dynload"
        tree.copy_all(folder, without=LEFT_OUT | build | {extensions.name})
        for extension in extensions.glob("*.so"):
            if not EXTENSIONS_LEFT_OUT.match(extension.name):
                tree.copy(extension)


def shared_libraries(files: Iterable[Path]) -> Iterator[Path]:
    """Yield the libraries that the loader finds for these files, and the loader itself."""
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
    """Return the Debian packages of these files; files below /usr/local and /opt belong to none."""
    own = {str(file) for file in files if not file.is_relative_to("/usr/local") and file.parts[1] != "opt"}
    # Before Debian 13, packages list files at /lib that are at /usr/lib once links are resolved.
    names = own | {path.removeprefix("/usr") for path in own}
    found = subprocess.run(
        ["dpkg-query", "--search", *sorted(names)],
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
