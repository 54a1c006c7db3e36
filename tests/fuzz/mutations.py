"""Good documents with mistakes in them: JSON trees, and text.

Purely random input is refused at once. A good document with one mistake reaches more code.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

from hypothesis import strategies as st

from property.strategies import any_text

ODD_TEXTS: Final = (
    "", " ", "nginx", "nginx:1", "registry.corp.io/web:1", "registry.corp.io/hub/library/nginx", "auto",
    "docker.io/evil/x", "REGISTRY.corp.io/x", "registry.corp.io.evil.io/x", "sha256:" + "0" * 64,
    "registry.corp.io/web@sha256:" + "0" * 64, "a" * 5000, "\ud800", "a\nb", "\u202e", "\0", "Pod", "CREATE",
    "UPDATE", "DELETE", "apps", "kubernetes.io/config.mirror", "{}", "ephemeralcontainers", "dev", "1e999",
)  # fmt: skip

HTTP_LINES: Final = (
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: +5",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 1, 1",
    b"content-length:5",
    b" Content-Length: 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: \x0bchunked",
    b"Content-Encoding: gzip",
    b"Content-Type: text/plain",
    b"Connection: close",
    b"Connection: upgrade\r\nUpgrade: websocket",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Expect: nonsense",
    b"Host: x",
    b"X: " + b"a" * 9000,
    b"X: \x80\xff",
    b"X:",
    b": x",
    b"X",
    b"\tfolded",
    b"Cookie: a=b",
    b"5\r\nhello",
    b"ffffffff",
    b"0",
    b"5;x=y\r\nhello",
    b"-1",
    b"0x5",
    b"",
)
"""Lines of headers and of chunks."""

HTTP_TOKENS: Final = (
    *(line + b"\r\n" for line in HTTP_LINES),
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b"\0", b"\x80", b":", b"X" * 9000),
    *(b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00"),
    *(b"CONNECT ", b"HEAD ", b"OPTIONS ", b"PUT ", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    *(
        b"http://other/",
        b"http://[",
        b"*",
        b"%00",
        b"%2e%2e/",
        b"%",
        b"?timeout=1ms",
        b"?timeout=\xff",
        b"#",
        b"//",
    ),
)

scalars: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(ODD_TEXTS),
    any_text,
)
anything: Final = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(ODD_TEXTS) | any_text, inner, max_size=3)
    ),
    max_leaves=8,
)
"""Small JSON values of any type."""

Path = tuple[str | int, ...]


def paths(value: Any, path: Path = ()) -> list[Path]:
    """Return the paths in a JSON value; the value itself is at ``()``."""
    found = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += paths(item, (*path, index))
    return found


def at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


@st.composite
def mutated(draw: st.DrawFn, originals: Sequence[Any]) -> Any:
    """Draw one of the values with up to four changes at random paths."""
    value = copy.deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 4))):
        path = draw(st.sampled_from(paths(value)))
        if not path:
            if draw(st.integers(0, 20)) == 0:
                value = draw(anything)
            continue
        holder, last = at(value, path[:-1]), path[-1]
        match draw(st.sampled_from(("replace", "remove", "graft", "wrap", "repeat"))):
            case "replace":
                holder[last] = draw(anything)
            case "remove":
                del holder[last]
            case "graft":  # another value of the same document, in the wrong field
                holder[last] = copy.deepcopy(at(value, draw(st.sampled_from(paths(value)))))
            case "wrap":
                holder[last] = draw(
                    st.sampled_from(([holder[last]], {"spec": holder[last]}, {"template": holder[last]}))
                )
            case "repeat" if isinstance(holder, list) and isinstance(last, int):
                holder += [copy.deepcopy(holder[last])] * draw(st.integers(1, 12))
            case _:
                holder[draw(st.sampled_from(ODD_TEXTS))] = copy.deepcopy(holder[last])
    return value


@st.composite
def mutated_text(draw: st.DrawFn, originals: Sequence[str], tokens: Sequence[str]) -> str:
    """Draw one of the texts with up to six changes of lines, characters or relevant tokens."""
    text = draw(st.sampled_from(originals))
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3, 6)))):
        lines = text.split("\n")
        line = draw(st.integers(0, len(lines) - 1))
        place = draw(st.integers(0, len(text)))
        match draw(st.sampled_from(("drop", "double", "indent", "swap", "token", "cut", "paste", "any"))):
            case "drop":
                del lines[line]
                text = "\n".join(lines)
            case "double":
                text = "\n".join([*lines[: line + 1], *lines[line:]])
            case "indent":
                lines[line] = draw(st.sampled_from(("  ", " ", "\t", "- ", "    "))) + lines[line]
                text = "\n".join(lines)
            case "swap":
                other = draw(st.integers(0, len(lines) - 1))
                lines[line], lines[other] = lines[other], lines[line]
                text = "\n".join(lines)
            case "token":
                text = text[:place] + draw(st.sampled_from(tokens)) + text[place:]
            case "cut":
                text = text[:place] + text[place + draw(st.integers(1, 20)) :]
            case "paste":
                start = draw(st.integers(0, len(text)))
                text = text[:place] + text[start : start + draw(st.integers(1, 60))] + text[place:]
            case _:
                text = text[:place] + draw(st.text(max_size=3)) + text[place:]
    return text


@st.composite
def mutated_bytes(
    draw: st.DrawFn, originals: Sequence[bytes], inserted: Sequence[bytes], tokens: Sequence[bytes]
) -> list[bytes]:
    """Draw one or two messages of HTTP with mistakes in them, in pieces.

    ``inserted`` are lines of headers and of chunks.
    """
    content = b"".join(draw(st.lists(st.sampled_from(originals), min_size=1, max_size=2)))
    for _ in range(draw(st.integers(0, 4))):
        head = content.find(b"\r\n\r\n") % (len(content) + 1)
        place = draw(st.one_of(st.integers(0, head), st.integers(0, len(content))))
        lines = content.split(b"\r\n")
        line = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(("token", "line", "drop", "double", "flip", "cut", "any"))):
            case "token":
                content = content[:place] + draw(st.sampled_from(tokens)) + content[place:]
            case "line":
                lines.insert(line, draw(st.sampled_from(inserted)))
                content = b"\r\n".join(lines)
            case "drop":
                del lines[line]
                content = b"\r\n".join(lines)
            case "double":
                lines.insert(line, lines[line])
                content = b"\r\n".join(lines)
            case "flip" if content:
                place = min(place, len(content) - 1)
                content = (
                    content[:place]
                    + bytes([content[place] ^ draw(st.integers(1, 255))])
                    + content[place + 1 :]
                )
            case "cut":
                content = content[:place]
            case _:
                content = content[:place] + draw(st.binary(max_size=6)) + content[place:]
    places = sorted(draw(st.lists(st.integers(0, len(content)), max_size=3)))
    return [content[start:end] for start, end in zip([0, *places], [*places, len(content)], strict=True)]
