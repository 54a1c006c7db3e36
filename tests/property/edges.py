"""Images and namespaces at the edges of policies.

Most random images match no rule. These are derived from the text of the rules: they fill the wildcards, have
one segment or one character more or less, spell the host differently, and lie at both ends of mirrors.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final, NamedTuple

FILLS: Final = ("", "x", "a", "b1", "0", "x-y", "x.y", "x_y", "library")
PORTS: Final = (":443", ":0443", ":5000", ":05000", ":80", ":0")
HUB: Final = ("docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")
HOSTS: Final = ("other.example", "localhost", "localhost:5000", "[::1]", "[::1]:5000", "foo:443", *HUB)
DIGESTS: Final = ("sha256:" + "0" * 64, "sha256:" + "ab" * 32, "sha512:" + "0" * 128)

Place = tuple[str, tuple[str, ...]]
"""A host and segments; both may contain wildcards."""


class _Text(NamedTuple):
    place: Place
    tag: str
    digest: str


class Edges:
    """Draws images and namespaces close to the rules and mirrors of some documents."""

    def __init__(self, random: Random, *documents: dict[str, Any]) -> None:
        self._random = random
        rules = [rule for each in documents for rule in (*each["allow"], *each.get("deny", ()))]
        mirrors = [mirror for each in documents for mirror in each.get("mirrors", ())]
        excepted = [pattern for mirror in mirrors for pattern in mirror.get("except", ())]
        written = [rule if isinstance(rule, str) else rule["image"] for rule in rules]
        texts = [_split(text) for text in (*written, *excepted)]
        ends = [
            (_split(mirror["from"]).place, _split(to).place)
            for mirror in mirrors
            for to in ([mirror["to"]] if isinstance(mirror["to"], str) else mirror["to"])
        ]
        self._moves = [*ends, *((to, source) for source, to in ends)]
        self._places = [*(text.place for text in texts), *(place for move in self._moves for place in move)]
        self._tags = [*(text.tag for text in texts if text.tag), "latest", "*"]
        self._digests = [*(text.digest for text in texts if len(text.digest) > 1), *DIGESTS]
        lists = [rule["namespaces"] for rule in rules if isinstance(rule, dict) and "namespaces" in rule]
        lists += [override["names"] for each in documents for override in each.get("namespaces", ())]
        self._names = [*(name for names in lists for name in names), "default", "*"]

    def draw(self, images: int, namespaces: int) -> list[tuple[str, str | None]]:
        """Draw images and, for each of them, several namespaces."""
        drawn: list[tuple[str, str | None]] = []
        for _ in range(images):
            image = self.image()
            drawn += ((image, self.namespace()) for _ in range(namespaces))
        return drawn

    def image(self) -> str:
        host, segments = self._random.choice(self._places)
        segments = tuple(self._part(glob) for glob in segments)
        if self._random.random() < 0.3:
            segments = self._near(segments)
        if self._moves and self._random.random() < 0.4:
            host, segments = self._moved(host, segments)
        name = "/".join(segments or (self._part("*") or "x",))
        if self._random.random() < 0.1:
            name = self._long(host, name)
        return f"{self._host(host)}{name}{self._suffix()}"

    def namespace(self) -> str | None:
        if self._random.random() < 0.15:
            return None
        return self._part(self._random.choice(self._names)) or "x"

    def _host(self, host: str) -> str:
        """Draw a spelling of a host, or a similar host, with the slash after it."""
        random = self._random
        host = ".".join(self._part(label, often=0.05) for label in host.split("."))
        chance = random.random()
        if not host or chance < 0.05:
            host = random.choice(HOSTS)
        elif chance < 0.15:
            host = host.partition(":")[0] + random.choice(PORTS)
        elif chance < 0.2:
            host = "x." + host
        elif chance < 0.25:
            host = host.partition(".")[2] or host
        elif chance < 0.3:
            host = host.upper()
        if host in HUB:
            host = random.choice(["", *HUB, "docker.io:443", "index.docker.io:443"])
        return f"{host}/" if host else ""

    def _part(self, glob: str, *, often: float = 0.1) -> str:
        """Draw a string that a glob matches or nearly matches."""
        text = "".join(self._random.choice(FILLS) if char == "*" else char for char in glob)
        if self._random.random() < often and not text.startswith("["):
            text = self._random.choice([text[1:], text[:-1], text + "x", "x" + text, text.swapcase()])
        return text

    def _long(self, host: str, name: str) -> str:
        """Draw a name at the limits of the length, including those of mirrored and of official names."""
        random = self._random
        if host in HUB and random.random() < 0.5:
            name = name.rpartition("/")[2]
        length = random.choice([random.randint(200, 263), random.randint(246, 256)])
        return name + random.choice(["/", ""]) + "n" * max(length - len(name), 1)

    def _near(self, segments: tuple[str, ...]) -> tuple[str, ...]:
        return self._random.choice(
            [
                segments[:-1],
                segments[1:],
                (*segments, self._part("*") or "x"),
                (*segments, "x", "y"),
                ("library", *segments),
                (*segments[:-1], "x"),
            ]
        )

    def _moved(self, host: str, segments: tuple[str, ...]) -> Place:
        """Draw the same image at the other end of a mirror, or another image below one of its ends."""
        (from_host, start), (to, target) = self._random.choice(self._moves)
        if host in {from_host, "*"} and segments[: len(start)] == start:
            return to, (*target, *segments[len(start) :])
        return from_host, (*start, *segments)

    def _suffix(self) -> str:
        random = self._random
        tag = ":" + self._part(random.choice(self._tags))
        digest = random.choice(self._digests)
        if random.random() < 0.2:
            digest = digest[:-1] + random.choice("0f")
        suffix = random.choice(["", tag, tag, f"@{digest}", f"{tag}@{digest}"])
        return suffix if suffix != ":" and not suffix.startswith(":@") else ""


def _split(text: str) -> _Text:
    """Return the parts of a pattern's text."""
    name, _, digest = text.partition("@")
    host, _, path = name.partition("/")
    tag = ""
    if ":" in path:
        path, _, tag = path.partition(":")
    segments = tuple(segment for segment in path.split("/") if segment not in {"", "**"})
    return _Text((host, segments), tag, digest)
