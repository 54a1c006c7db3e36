"""A webhook written with Flask: Flask's own JSON, and gunicorn's threads.

Run by gunicorn in an environment of its own (``requirements.txt``).
"""

from __future__ import annotations

from decision import answer  # type: ignore[import-not-found]
from flask import Flask, Response, jsonify, request  # type: ignore[import-not-found]

app = Flask(__name__)


@app.post("/validate-image")  # type: ignore[untyped-decorator]
def validate() -> Response:
    """Answer an AdmissionReview."""
    return jsonify(answer(request.get_json()))
