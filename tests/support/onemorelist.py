"""A pytest plugin that adds a row to the table of image lists before any other module reads the table.

Run ``python -m pytest -p support.onemorelist tests/core/admission/test_fields.py`` to find code that does not
use the table.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Final

TABLE: Final = "gatekeeper_py.core.admission.fields"


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        row = module.ImageList("sources", "source", "whenToPull", "sourceStatuses", ("origin", "ref"))
        vars(module)["IMAGE_LISTS"] = (*module.IMAGE_LISTS, row)


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == TABLE else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


sys.meta_path.insert(0, _Finder)
