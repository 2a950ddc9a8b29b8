"""BentoML as its documentation begins: one batchable method that takes and gives arrays."""

import os

import bentoml
import numpy as np


@bentoml.service(workers=1)
class Stock:
    """The network behind ``/infer``, every setting at its default."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options)

    @bentoml.api(batchable=True)
    def infer(self, rows: np.ndarray) -> np.ndarray:
        """Score rows."""
        (score,) = self.session.run(["score"], {"features": rows.astype(np.float32)})
        return score
