"""Scores of an ONNX file, as onnxruntime gives them where it is served.

Belongs here: opening a file, scoring rows in portions. Not here: a torch network's scores
(`davy.training.fitting`), or how good they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from davy.core.errors import InvalidInputError, NotFoundError

OUTPUT = "score"
PORTION_ROWS = 16384

Inputs = Mapping[str, npt.NDArray[Any]]


def open_session(path: Path) -> Any:
    """Open an ONNX file in onnxruntime on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def session_scores(session: Any, inputs: Inputs) -> npt.NDArray[np.float32]:
    """Return the score of each row of `inputs`, of shape [rows], in portions of `PORTION_ROWS`."""
    rows = next(iter(inputs.values())).size
    portions = (slice(low, low + PORTION_ROWS) for low in range(0, rows, PORTION_ROWS))
    scores = [
        session.run([OUTPUT], {name: column[portion] for name, column in inputs.items()})[0]
        for portion in portions
    ]
    result: npt.NDArray[np.float32] = np.concatenate(scores).astype(np.float32)
    return result


def file_scores(path: Path, inputs: Inputs) -> npt.NDArray[np.float32]:
    """Return what an ONNX file gives each row of `inputs`, of shape [rows].

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        It cannot be opened, or does not take these inputs.
    """
    if not path.is_file():
        raise NotFoundError("no such file", where=str(path), fix="Compress and export first")
    try:
        return session_scores(open_session(path), inputs)
    except Exception as error:  # onnxruntime's errors share no base class of their own
        reason = " ".join(str(error).split())[:300]
        raise InvalidInputError(
            f"the model does not take the rows: {reason}",
            where=str(path),
            fix="Export the model again from the same task and features",
        ) from None
