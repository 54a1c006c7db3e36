"""Text -> PolicyDocument. Reports every problem at once, with its path and line."""

from __future__ import annotations

from gatekeeper_py.core.policy.conflicts import mirror_problems
from gatekeeper_py.core.policy.document import PolicyDocument, PolicyError
from gatekeeper_py.core.policy.finding import in_order
from gatekeeper_py.core.policy.validation import validate
from gatekeeper_py.core.policy.yamltree import parse_yaml


def parse_document(text: str) -> PolicyDocument:
    """Parse a policy document.

    Raises ``PolicyError`` with every problem.
    """
    tree = parse_yaml(text)
    document = None
    if not tree.hides(()):
        document, findings = validate(tree)
        tree.findings.extend(findings)
        tree.findings.extend(mirror_problems(tree))
    if tree.findings or document is None:
        raise PolicyError(in_order(tree.findings))
    return document
