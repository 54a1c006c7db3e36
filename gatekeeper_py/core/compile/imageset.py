"""A set of images: everything written in full that one pattern matches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from gatekeeper_py.core.compile.written import FullName
from gatekeeper_py.core.images.glob import compiled, globs_overlap, is_glob
from gatekeeper_py.core.images.pattern import ANY, Pattern, Prefix, host_matches, path_matches, split_port
from gatekeeper_py.core.images.reference import Location


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """A set of images. The fields are those of ``Pattern``, folded in the same way.

    ``host`` is ``*`` for every registry, and may hold ``*`` in its labels. ``tag`` is a glob. ``digest`` is
    one digest, or ``*`` for every pinned image.
    """

    host: str
    segments: tuple[str, ...] = ()
    subtree: bool = False
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def of(cls, pattern: Pattern) -> Self:
        return cls(
            host=pattern.host,
            segments=pattern.segments,
            subtree=pattern.subtree,
            tag=pattern.tag,
            digest=pattern.digest,
        )

    @classmethod
    def below(cls, prefix: Prefix) -> tuple[Self, Self]:
        """Return the repository that a mirror's end names, and everything below it."""
        here = cls(host=prefix.host, segments=prefix.segments)
        return here, replace(here, subtree=True)

    def __str__(self) -> str:
        path = "/".join((self.host, *self.segments, *(("**",) if self.subtree else ())))
        tag = "" if self.tag is None else f":{self.tag}"
        return path + tag + ("" if self.digest is None else f"@{self.digest}")

    @property
    def literal(self) -> bool:
        """Whether host and path contain no wildcard, except for the final ``**``."""
        return not is_glob(self.host) and not any(map(is_glob, self.segments))

    @property
    def qualified(self) -> bool:
        """Whether the set requires a tag or a digest."""
        return self.tag is not None or self.digest is not None

    @property
    def start(self) -> str:
        """The literal text that each name in the set begins with; ends with a slash for a subtree."""
        return "/".join((self.host, *self.segments, *(("",) if self.subtree else ())))

    def example(self, below: str = "app") -> str:
        """Return an example of an image in the set, written in full if any image in the set can be.

        ``below`` is the last segment of its name in a subtree.
        """
        filled = (part.replace("*", "x") for part in (self.host, *self.segments))
        name = "/".join((*filled, *((below,) if self.subtree else ())))
        tag = "" if self.tag is None else f":{self.tag.replace('*', 'x')}"
        digest = f"sha256:{'0' * 64}" if self.digest == ANY else self.digest
        return name + tag + ("" if digest is None else f"@{digest}")

    def unqualified(self) -> Self:
        """Return the set with every tag and digest."""
        return replace(self, tag=None, digest=None)

    def has(self, name: FullName) -> bool:
        """Return whether an image is in the set."""
        return self.has_location(name.location) and self._has_version(name.tag, name.digest)

    def has_location(self, location: Location) -> bool:
        """Return whether some tag or digest of a repository is in the set."""
        return host_matches(self.host, location.host) and path_matches(
            self.segments, location.segments, subtree=self.subtree
        )

    def covers(self, other: Self) -> bool:
        """Return whether every image of ``other`` is in this set; only ``True`` is certain."""
        # Match the globs of ``other`` as if they were plain texts: only a star matches a star.
        path = (*other.segments, ANY) if other.subtree else other.segments
        return (
            (self.subtree or not other.subtree)
            and (self.host == ANY or (other.host != ANY and host_matches(self.host, other.host)))
            and path_matches(self.segments, path, subtree=self.subtree)
            and self._covers_version(other)
        )

    def overlaps(self, other: Self) -> bool:
        """Return whether some image may be in both sets; only ``False`` is certain."""
        return (
            _hosts_overlap(self.host, other.host)
            and self._paths_overlap(other)
            and self._versions_overlap(other)
        )

    def _has_version(self, tag: str | None, digest: str | None) -> bool:
        if self.digest is not None:
            return digest is not None and self.digest in {ANY, digest}
        return self.tag is None or (tag is not None and compiled(self.tag).matches(tag))

    def _covers_version(self, other: Self) -> bool:
        if self.digest is not None:
            return other.digest is not None and self.digest in {ANY, other.digest}
        if self.tag is not None:
            return other.tag is not None and compiled(self.tag).matches(other.tag)
        return True

    def _paths_overlap(self, other: Self) -> bool:
        mine, others = len(self.segments), len(other.segments)
        if self.subtree and other.subtree:
            long_enough = True
        elif self.subtree:
            long_enough = others > mine
        elif other.subtree:
            long_enough = mine > others
        else:
            long_enough = mine == others
        return long_enough and all(map(globs_overlap, self.segments, other.segments))

    def _versions_overlap(self, other: Self) -> bool:
        if self.digest is not None and other.digest is not None:
            return ANY in {self.digest, other.digest} or self.digest == other.digest
        if self.tag is not None and other.tag is not None:
            return globs_overlap(self.tag, other.tag)
        # If an image has a digest, its tag does not count.
        return not (self.qualified and other.qualified)


def _hosts_overlap(one: str, other: str) -> bool:
    if ANY in {one, other}:
        return True
    name, port = split_port(one)
    other_name, other_port = split_port(other)
    labels, others = name.split("."), other_name.split(".")
    return port == other_port and len(labels) == len(others) and all(map(globs_overlap, labels, others))
