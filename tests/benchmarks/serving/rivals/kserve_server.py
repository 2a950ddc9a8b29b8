"""KServe's own model server with a custom model, HTTP and gRPC, every setting at its default."""

from __future__ import annotations

import os

import onnxruntime
from kserve import InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import get_predict_response


class Net(Model):
    """The network."""

    def __init__(self) -> None:
        super().__init__("net")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options)
        self.ready = True

    async def predict(
        self,
        payload: InferRequest,
        headers: dict[str, str] | None = None,
    ) -> InferResponse:
        """Score rows."""
        rows = payload.inputs[0].as_numpy()
        (score,) = self.session.run(["score"], {"features": rows})
        return get_predict_response(payload, score, self.name)


if __name__ == "__main__":
    ModelServer(
        http_port=int(os.environ["BENCH_PORT"]), grpc_port=int(os.environ["BENCH_GRPC_PORT"])
    ).start([Net()])
