"""Check the size and the characters of a document's text before it is parsed.

A reviewer and the parser must see the same lines, so the only line breaks are LF and CRLF. Control
characters, the other line breaks of Unicode and the characters that reorder text on a screen are
refused everywhere, in comments too.
"""

from __future__ import annotations

import re
from typing import Final

from gatekeeper_py.core.policy.finding import Mark, Remark, Remarks

# Control characters except tab and line breaks (U+0085 counts as a control character), the two line breaks of
# Unicode, everything with the property Bidi_Control, and characters that no UTF-8 text or YAML stream can
# hold. The expression looks at one or two characters at a time, so its time is linear.
_REFUSED: Final = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
    r"|\r(?!\n)"
)

_ASCII_CONTROLS: Final = bytes(range(9)) + b"\x0b\x0c" + bytes(range(14, 32)) + b"\x7f"

_LINE_BREAKS: Final = {
    "\r": "a carriage return without a line feed",
    "\x85": "the line break U+0085",
    "\u2028": "the line break U+2028",
    "\u2029": "the line break U+2029",
}


def check_text(text: str, most: int, remarks: Remarks) -> bool:
    """Return whether ``text`` has at most ``most`` bytes of UTF-8 and only characters that it may hold."""
    if len(text) > most or (not text.isascii() and len(text.encode(errors="surrogatepass")) > most):
        limit = f"{most // (1024 * 1024)} MiB" if most % (1024 * 1024) == 0 else f"{most:,} bytes"
        message = f"the text is longer than {limit}, the limit"
        remarks.add(Remark(code="too-long", path=(), message=message, mark=Mark(1, 1)))
        return False
    # Nearly every text is plain ASCII, and this check is 20 times as fast as the expression.
    if text.isascii() and "\r" not in text and not _holds_controls(text.encode()):
        return True
    found = remarks.total
    _report_characters(text, remarks)
    return remarks.total == found


def cleaned(text: str) -> str:
    """Replace every refused character by a space, so that a parser can recognise the kind of document."""
    return _REFUSED.sub(" ", text)


def _holds_controls(content: bytes) -> bool:
    return len(content.translate(None, _ASCII_CONTROLS)) != len(content)


def _report_characters(text: str, remarks: Remarks) -> None:
    line, line_start, counted = 1, 0, 0
    matches = _REFUSED.finditer(text)
    for match in matches:
        at = match.start()
        breaks = text.count("\n", counted, at)
        if breaks:
            line += breaks
            line_start = text.rindex("\n", counted, at) + 1
        counted = at
        remarks.add(
            Remark(
                code="yaml-syntax",
                path=(),
                message=_message(match[0]),
                proposal="remove it, or write it as an escape in double quotes",
                mark=Mark(line, at - line_start + 1),
            )
        )
        if remarks.full:
            remarks.more += sum(1 for _ in matches)


def _message(character: str) -> str:
    number = f"U+{ord(character):04X}"
    if character in _LINE_BREAKS:
        return (
            f"the text contains {_LINE_BREAKS[character]}, which only some programs show as the end of a line"
        )
    if "\u061c" <= character <= "\u2069":
        return f"the text contains {number}, which changes the order in which a line is shown"
    return f"the text contains the character {number}, which is not allowed"
