"""``python -m benchmarks.load.plain serve …``: the product's command, its webhook listener without TLS.

Not for use: it is one side of the difference that tells what TLS costs.
"""

from __future__ import annotations

from typing import Any

from gatekeeper_py.__main__ import main
from gatekeeper_py.serving import app as serve
from gatekeeper_py.serving.listener import Listener


class PlainListener(Listener):
    """Ignores the certificates."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "context": None})


if __name__ == "__main__":
    if vars(serve)["Listener"] is not Listener:
        raise AssertionError("serve makes another listener")
    vars(serve)["Listener"] = PlainListener
    main()
