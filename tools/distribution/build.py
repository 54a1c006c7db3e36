"""Build distribution's registry, once per user and version; see ``tools/gobuild.py``.

The command of the project itself includes the drivers of every cloud storage. ``server/main.go`` includes
only what the tests use. It takes half of the build time and a third of the space.

Standard library only: it runs before there is a virtualenv.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tools.gobuild import Product, Programs

MODULE = "github.com/distribution/distribution/v3"


def _variables(version: str) -> Mapping[str, str]:
    """Return the linker variables with the version that the registry reports."""
    return {f"{MODULE}/version.version": version}


PROGRAMS = Programs(
    name="registry",
    root=Path(__file__).resolve().parent,
    products=(Product(folder="server", packages={"registry3": "."}, released=MODULE, variables=_variables),),
    title="the registry",
    target="make registry",
)
