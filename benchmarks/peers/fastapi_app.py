"""A webhook written with FastAPI, with orjson for the JSON.

Run by uvicorn in an environment of its own (``requirements.txt``). FastAPI's ``ORJSONResponse`` is
deprecated in this version and warns at every use; a plain ``Response`` does the same work.
"""

from __future__ import annotations

import orjson
from decision import answer  # type: ignore[import-not-found]
from fastapi import FastAPI, Request, Response  # type: ignore[import-not-found]

app = FastAPI(openapi_url=None)


@app.post("/validate-image")  # type: ignore[untyped-decorator]
async def validate(request: Request) -> Response:
    """Answer an AdmissionReview."""
    return Response(orjson.dumps(answer(orjson.loads(await request.body()))), media_type="application/json")
