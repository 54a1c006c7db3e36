"""The policy document: text -> PolicyDocument, every problem at once with its path and line."""

from __future__ import annotations

from pydantic import ValidationError

from gatekeeper_py.core.policy.finding import Finding, in_order
from gatekeeper_py.core.policy.problems import mirror_problems, translated
from gatekeeper_py.core.policy.schema import PolicyDocument
from gatekeeper_py.core.policy.yamltree import Tree, parse_yaml


class PolicyError(ValueError):
    """The text is no acceptable policy; ``findings`` lists every problem, none of them partial."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("; ".join(map(str, findings)))
        self.findings = findings


def parse_document(text: str) -> tuple[PolicyDocument, Tree]:
    """Parse a policy document; the tree tells where each path stands in ``text``.

    Raises ``PolicyError`` with every problem.
    """
    tree = parse_yaml(text)
    document = None
    if not tree.hides(()):
        try:
            document = PolicyDocument.model_validate(tree.root)
        except ValidationError as problem:
            tree.findings.extend(translated(tree, problem))
        tree.findings.extend(mirror_problems(tree))
    if tree.findings or document is None:
        raise PolicyError(in_order(tree.findings))
    return document, tree
