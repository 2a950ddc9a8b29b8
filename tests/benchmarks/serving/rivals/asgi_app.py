"""uvicorn and a bare ASGI function: the least that answers the protocol, by our codec.

No metrics, no validation, no payload log, no batching, no routes.
"""

from __future__ import annotations

import os
from typing import Any

import onnxruntime

from davy.protocol.tensors import Tensor
from davy.protocol.v2 import InferResponse, decode_request, encode_response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer one inference; anything else is the question whether it is ready."""
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"application/json")]
    body = b'{"ready":true}'
    if scope["method"] == "POST":
        length = None
        for name, value in scope["headers"]:
            if name == b"inference-header-content-length":
                length = int(value)
        chunks = []
        more = True
        while more:
            message = await receive()
            chunks.append(message.get("body", b""))
            more = message.get("more_body", False)
        asked = decode_request(b"".join(chunks), length)
        (score,) = session.run(["score"], {item.name: item.data for item in asked.inputs})
        answer = InferResponse("net", "1", (Tensor("score", "FP32", score.shape, score),), asked.id)
        body, length = encode_response(answer, binary=["score"] if asked.binary("score") else ())
        if length is not None:
            headers = [
                (b"content-type", b"application/octet-stream"),
                (b"inference-header-content-length", str(length).encode()),
            ]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
