"""Golden tables: YAML files with the recorded output of each case, and often its input.

After an intended change, ``--update-golden`` writes the tables again, for review by git diff. Run it without
``-n``, because each process writes whole tables.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

DATA: Final = Path(__file__).parents[1] / "data"


class _Dumper(yaml.CSafeDumper):
    """Writes text of several lines as a block, and small collections on one line."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    def ignore_aliases(self, _data: Any) -> bool:
        return True


_Dumper.add_representer(str, _Dumper.represent_text)


@cache
def golden(table: str) -> dict[str, Any]:
    """Return the table in ``tests/data/TABLE.yaml``."""
    content: dict[str, Any] = yaml.load((DATA / f"{table}.yaml").read_text("utf-8"), yaml.CSafeLoader)
    return content


def recorded(table: str, case: dict[str, Any], key: str, found: Any, *, update: bool) -> Any:
    """Return the recorded value of a case. With ``update``, record what was found first."""
    if update and case.get(key) != found:
        case[key] = found
        text = yaml.dump(golden(table), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=1000)
        (DATA / f"{table}.yaml").write_text(text, "utf-8")
    return case.get(key)
