"""``python -m benchmarks.load.plain serve …``: gatekeeper-py with a webhook listener without TLS.

Only for the benchmark that measures the cost of TLS.
"""

from __future__ import annotations

from typing import Any

from gatekeeper_py.__main__ import main
from gatekeeper_py.http.listener import Listener
from gatekeeper_py.webhook import app as serve


class PlainListener(Listener):
    """A listener that ignores the certificates."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "context": None})


if __name__ == "__main__":
    if vars(serve)["Listener"] is not Listener:
        raise AssertionError("serve makes another listener")
    vars(serve)["Listener"] = PlainListener
    main()
