"""Stream images and the objects that use them as JSON.

One image may run in 50,000 objects, so the document is written piece by piece.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gatekeeper_py.cli.inventory.tally import Usage
from gatekeeper_py.cli.reporting.console import json_text

CLOSING: Final = "\n    }"

Rows = Iterable[tuple[Mapping[str, Any], Sequence[Usage]]]
"""The fields of each image, and its uses."""


def write_images(before: Mapping[str, Any], rows: Rows, after: Mapping[str, Any]) -> None:
    """Write one document: the fields in ``before``, the field ``images``, and the fields in ``after``.

    The output has the format of ``json.dumps(indent=2)``.
    """
    out = sys.stdout
    out.write("{\n")
    for key, value in before.items():
        out.write(f'  "{key}": {_indented(value, 2).lstrip()},\n')
    out.write('  "images": [')
    separator = "\n"
    for fields, usages in rows:
        whole = _indented({**fields, "count": len(usages), "objects": []}, 4)
        out.write(f"{separator}{whole.removesuffix('[]' + CLOSING)}[")
        for index, usage in enumerate(usages):
            out.write(f"{',' if index else ''}\n{_indented(usage.as_json(), 8)}")
        separator = ",\n"
        out.write(f"\n      ]{CLOSING}" if usages else f"]{CLOSING}")
    out.write("]" if separator == "\n" else "\n  ]")
    for key, value in after.items():
        out.write(f',\n  "{key}": {_indented(value, 2).lstrip()}')
    out.write("\n}\n")


def write_image_lines(header: Mapping[str, Any], rows: Rows) -> None:
    """Write JSON lines: the header, then one line for each image."""
    out = sys.stdout
    out.write(f"{json_text(header, indent=None)}\n")
    for fields, usages in rows:
        start = json_text({**fields, "count": len(usages), "objects": []}, indent=None)
        out.write(start.removesuffix("]}"))
        for index, usage in enumerate(usages):
            out.write(f"{', ' if index else ''}{json_text(usage.as_json(), indent=None)}")
        out.write("]}\n")


def _indented(value: Any, spaces: int) -> str:
    return textwrap.indent(json_text(value), " " * spaces)
