"""Requirements: what an image with an approved name must also be (docs/policy.md, "Requirements").

A requirement never approves an image. An image must meet each requirement that matches it, or a name that it
mirrors, whichever rule or exception approved its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.pattern import Pattern
from gatekeeper_py.core.policy.rules import Rule

OnError = Literal["keep", "deny"]
"""What happens to an image that could not be looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One entry of ``require``.

    If ``namespaces`` is ``None``, it applies to all namespaces and to requests without a namespace.
    ``excepts`` are the images that it spares. With ``digest``, the name of the image must carry a digest.
    With ``exists``, the image must exist in its registry. With ``signed_by``, which implies both, one of the
    keys with these names must have signed the image, and ``signatures`` is the repository that holds the
    signatures, empty for the image's own. ``on_error`` applies if a registry could not be queried. With
    ``warns``, an image that does not meet the requirement only causes a warning.
    """

    index: int
    images: tuple[Pattern, ...]
    namespaces: tuple[str, ...] | None = None
    excepts: tuple[Rule, ...] = ()
    digest: bool = False
    exists: bool = False
    signed_by: tuple[str, ...] = ()
    signatures: str = ""
    on_error: OnError = "keep"
    warns: bool = False
    owner: str | None = None
    reason: str | None = None

    def __str__(self) -> str:
        return f"require[{self.index}]"

    @property
    def looks_up(self) -> bool:
        """Whether a registry must be asked even about an image with a digest."""
        return self.exists or bool(self.signed_by)

    @property
    def rules(self) -> Iterator[Rule]:
        """A rule for each of its patterns, to find the requirement by an image."""
        for pattern in self.images:
            yield Rule(
                list="require",
                index=self.index,
                pattern=pattern,
                namespaces=self.namespaces,
                excepts=self.excepts,
            )

    @property
    def hosts(self) -> Iterator[str]:
        """The registries that it names without a wildcard: those of its images and of the signatures."""
        yield from (pattern.host for pattern in self.images if not is_glob(pattern.host))
        if self.signatures:
            yield self.signatures.partition("/")[0]
