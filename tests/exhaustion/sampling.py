"""Select the attacks of a short run: by a seed a sample of each kind, and all that a change affects."""

from __future__ import annotations

import ast
import hashlib
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
FOLDER: Final = str(HERE.relative_to(ROOT))
MAIN: Final = "origin/main"

ONE_IN: Final = 4
"""The sample has one row of each kind for this many rows, and at least one."""

PRODUCT: Final[Mapping[str, tuple[str, ...]]] = {
    "gatekeeper_py/core/admission/": ("test_requests",),
    "gatekeeper_py/core/exceptions/": ("test_exceptions",),
    "gatekeeper_py/core/images/": ("test_requests",),
    "gatekeeper_py/core/policy/": ("test_documents",),
    "gatekeeper_py/core/policy/parse/": ("test_exceptions",),
    "gatekeeper_py/live/exceptions/": ("test_exceptions",),
    "gatekeeper_py/live/parser/": ("test_documents", "test_exceptions"),
    "gatekeeper_py/registry/": ("test_registries", "test_shares"),
    "gatekeeper_py/live/reload.py": ("test_documents",),
    "gatekeeper_py/process/shares.py": ("test_shares",),
    "gatekeeper_py/webhook/body.py": ("test_requests",),
    "gatekeeper_py/http/bodymemory.py": ("test_requests", "test_shares"),
    "gatekeeper_py/http/connections/": ("test_crowds",),
    "gatekeeper_py/webhook/decode.py": ("test_requests",),
    "gatekeeper_py/webhook/denials.py": ("test_shares",),
    "gatekeeper_py/webhook/guard.py": ("test_documents", "test_shares"),
    "gatekeeper_py/http/listener.py": ("test_crowds",),
    "gatekeeper_py/webhook/reviewlog.py": ("test_shares",),
    "gatekeeper_py/webhook/webhook.py": ("test_requests",),
    "gatekeeper_py/live/sources/": ("test_documents", "test_exceptions"),
}
"""Beginning of the path of a product file -> the modules whose rows all run when such a file changes."""


def kind(row: str) -> str:
    """Return the kind of a row: its test, and the group before the colon in its name."""
    test, _, name = row.partition("[")
    group, colon, _ = name.partition(":")
    return f"{test}[{group}" if colon else test


def chosen(rows: Iterable[str], seed: str, modules: Iterable[str]) -> set[str]:
    """Return a sample of rows, and all rows of some modules. A row is the identifier that pytest prints."""
    whole = tuple(f"{FOLDER}/{module}.py::" for module in modules)
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    found = set()
    for row in rows:
        kinds[kind(row)].append(row)
        if row.startswith(whole):
            found.add(row)
    for of_kind in kinds.values():
        of_kind.sort(key=lambda row: hashlib.sha256(f"{seed} {row}".encode()).digest())
        found.update(of_kind[: -(-len(of_kind) // ONE_IN)])
    return found


def touched(paths: Iterable[str]) -> set[str]:
    """Return the modules of attacks that changed files belong to: product files, helpers, and the modules."""
    changed = set(paths)
    found = {
        module
        for path in changed
        for start, modules in PRODUCT.items()
        if path.startswith(start)
        for module in modules
    }
    for file in HERE.glob("test_*.py"):
        if changed.intersection(f"{FOLDER}/{name}.py" for name in imported(file.stem)):
            found.add(file.stem)
    return found


def imported(module: str) -> set[str]:
    """Return a module of this folder with those that it imports, directly or indirectly."""
    found, left = set[str](), [module]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        for node in ast.walk(ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == HERE.name:
                left += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{HERE.name}."):
                left.append(str(node.module).partition(".")[2])
    return found


def base(since: str | None = None) -> str:
    """Return the commit where a change begins: ``since``, where it left the main branch, or its parent.

    Raises ``CalledProcessError`` if there is none.
    """
    if since is not None:
        return _git("rev-parse", "--verify", f"{since}^{{commit}}")
    head = _git("rev-parse", "HEAD")
    try:
        left_at = _git("merge-base", "HEAD", MAIN)
    except subprocess.CalledProcessError:  # there is no such branch
        left_at = head
    return left_at if left_at != head else _git("rev-parse", "HEAD^")


def changed_since(commit: str) -> list[str]:
    """Return the files that differ between a commit and the working tree. Raises ``CalledProcessError``."""
    return _git("diff", "--name-only", "--no-renames", commit, "--").splitlines()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()
