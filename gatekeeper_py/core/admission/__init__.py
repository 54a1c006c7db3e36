"""AdmissionReviews: finding images, deciding on them, and the messages for users."""

from gatekeeper_py.core.admission.judgement import ActivePolicy, Judgement, Judging, Outcome
from gatekeeper_py.core.admission.mutation import mutate, mutating
from gatekeeper_py.core.admission.validation import approved_images, validate, validating

__all__ = [
    "ActivePolicy",
    "Judgement",
    "Judging",
    "Outcome",
    "approved_images",
    "mutate",
    "mutating",
    "validate",
    "validating",
]
