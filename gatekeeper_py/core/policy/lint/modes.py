"""Modes without an effect, or with another effect than the document states."""

from __future__ import annotations

from collections.abc import Iterator

from gatekeeper_py.core.policy.configmap import MODE_KEY
from gatekeeper_py.core.policy.document import rewrites
from gatekeeper_py.core.policy.finding import MODE_OVERRIDDEN, NOTHING_TO_REWRITE, Remark
from gatekeeper_py.core.policy.lint.subject import Subject, warning


def overridden_mode(subject: Subject) -> Iterator[Remark]:
    """Yield one remark when the ConfigMap's key ``mode`` differs from the document's mode."""
    if subject.mode != subject.document_mode:
        yield warning(
            MODE_OVERRIDDEN,
            ("mode",),
            f"the ConfigMap's key {MODE_KEY} replaces this mode with {subject.mode}",
            f"write mode: {subject.mode} here, or remove the key {MODE_KEY} from the ConfigMap",
        )


def rewriting_without_mirrors(subject: Subject) -> Iterator[Remark]:
    """Yield each setting of a rewriting mode, when neither mirrors nor pins rewrite images."""
    if subject.mirrors or any(rule.pin for rule in subject.approving()):
        return
    if rewrites(subject.mode):
        yield warning(
            NOTHING_TO_REWRITE,
            ("mode",),
            f"mode {subject.mode} rewrites nothing: the policy has neither mirrors nor a rule with pin",
            "add mirrors, or write mode: enforce",
        )
    for index, entry in enumerate(subject.overrides):
        if entry.mode is not None and rewrites(entry.mode):
            yield warning(
                NOTHING_TO_REWRITE,
                ("namespaces", index, "mode"),
                f"mode {entry.mode} rewrites nothing: the policy has neither mirrors nor a rule with pin",
                "add mirrors, or write mode: enforce",
            )
