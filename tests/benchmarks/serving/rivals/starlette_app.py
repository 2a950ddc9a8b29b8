"""uvicorn and Starlette: the Open Inference Protocol by our codec, nothing else.

No metrics, no validation, no payload log, no batching.
"""

from __future__ import annotations

import os

import onnxruntime
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from davy.protocol.tensors import Tensor
from davy.protocol.v2 import HEADER_LENGTH, InferResponse, decode_request, encode_response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options)


async def ready(request: Request) -> Response:
    """Say that it answers."""
    return JSONResponse({"ready": True})


async def infer(request: Request) -> Response:
    """Answer one inference."""
    length = request.headers.get(HEADER_LENGTH)
    asked = decode_request(await request.body(), int(length) if length else None)
    (score,) = session.run(["score"], {item.name: item.data for item in asked.inputs})
    answer = InferResponse(
        request.path_params["model"], "1", (Tensor("score", "FP32", score.shape, score),), asked.id
    )
    encoded = encode_response(answer, binary=["score"] if asked.binary("score") else ())
    if encoded.header_length is None:
        return Response(encoded.body, media_type="application/json")
    headers = {HEADER_LENGTH: str(encoded.header_length)}
    return Response(encoded.body, headers=headers, media_type="application/octet-stream")


app = Starlette(
    routes=[
        Route("/v2/health/ready", ready),
        Route("/v2/models/{model}/infer", infer, methods=["POST"]),
    ]
)
