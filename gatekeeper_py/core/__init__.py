"""Pure decisions on images, with no I/O, clock, environment, logging or event loop.

Everything here is a function from values to a value. The instant, the policy text and the AdmissionReview are
arguments, so the server, every command and every test get the same answer from the same code.
"""

from gatekeeper_py.core.images.reference import InvalidReference, Reference, parse_reference
from gatekeeper_py.core.policy.decision import Decision
from gatekeeper_py.core.policy.document import PolicyError
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.policy import CompiledPolicy, Policy, parse_policy

__all__ = [
    "CompiledPolicy",
    "Decision",
    "Finding",
    "InvalidReference",
    "Policy",
    "PolicyError",
    "Reference",
    "parse_policy",
    "parse_reference",
]
