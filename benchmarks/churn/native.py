"""The same approval without a webhook: the native policy that ``compile`` makes of the policy."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

from benchmarks.churn.approval import POLICY_FILE

API: Final = "/apis/admissionregistration.k8s.io/v1"

COLLECTIONS: Final = {
    "ValidatingAdmissionPolicy": f"{API}/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": f"{API}/validatingadmissionpolicybindings",
}


def documents() -> list[dict[str, Any]]:
    """Return the ValidatingAdmissionPolicy and its binding, in the order in which to create them.

    Raises ``CalledProcessError`` when the policy cannot be compiled exactly.
    """
    argv = [sys.executable, "-m", "gatekeeper_py", "compile", str(POLICY_FILE)]
    options = ["--to", "validating-admission-policy", "--format", "json"]
    compiled = subprocess.run([*argv, *options], check=True, stdout=subprocess.PIPE)
    items = json.loads(compiled.stdout)["items"]
    return sorted(items, key=lambda item: list(COLLECTIONS).index(item["kind"]))


def path(document: dict[str, Any]) -> str:
    """Return the path of such an object on the API server."""
    return f"{COLLECTIONS[document['kind']]}/{document['metadata']['name']}"
