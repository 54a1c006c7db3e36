"""No module imports itself through others, not even for type checking.

The layers are contracts of import-linter in pyproject.toml, which `make check` verifies.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


@pytest.mark.parametrize("package", ["gatekeeper_py", "tools", "benchmarks"])
def test_no_import_cycles(package: str) -> None:
    graph = grimp.build_graph(package, cache_dir=None, exclude_type_checking_imports=False)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 10
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as problem:
        pytest.fail(" imports ".join(problem.args[1][::-1]))
