"""AdmissionReviews: finding images, deciding on them, and the messages for users."""

from gatekeeper_py.core.admission.judge import Judge, Subject, Verdict, judge
from gatekeeper_py.core.admission.mutation import mutate, mutating
from gatekeeper_py.core.admission.outcome import Judging, Outcome
from gatekeeper_py.core.admission.validation import certainly_approved, validate, validating
from gatekeeper_py.core.admission.world import BY_NAME, Answers, World

__all__ = [
    "BY_NAME",
    "Answers",
    "Judge",
    "Judging",
    "Outcome",
    "Subject",
    "Verdict",
    "World",
    "certainly_approved",
    "judge",
    "mutate",
    "mutating",
    "validate",
    "validating",
]
