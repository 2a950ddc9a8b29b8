"""Explanations of scores: ``POST /v2/models/NAME/explain``, within a deadline.

Belongs here: limits, the worker that explains beside the requests, the answer's tensors.
Not here: the estimate (`davy.predictor.shapley`), HTTP.

ONNX Runtime executes models but differentiates none, so attributions come from scoring changed
rows, whatever kind of model it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from davy.core.clock import Clock
from davy.core.errors import DavyError, InvalidInputError, OverloadedError
from davy.core.logging import get_logger
from davy.packaging.contract import score_output
from davy.predictor.background import background
from davy.predictor.inference import late
from davy.predictor.model import Model
from davy.predictor.plane import DataPlane
from davy.predictor.shapley import Attributions, Columns, attribute
from davy.protocol.tensors import Array, tensor
from davy.protocol.v2 import InferRequest, InferResponse

METHOD = "shapley_permutation_sampling"
BASE = "base_value"
PREFIX = "attribution:"
FEWEST_SAMPLES = 4
# Explanations that wait for the one worker; each is bounded in time.
MOST_WAITING = 4
# Of the time given, what is kept for writing the answer.
RESERVE = 0.1
# Packages whose background rows are kept.
MOST_BACKGROUNDS = 8


@dataclass(frozen=True, slots=True)
class ExplainLimits:
    """Rows and samples of one explanation, and its seconds where the client names none."""

    seconds: float
    rows: int
    samples: int


class Explainer:
    """Explains scores in a thread of its own, one request after the other.

    Parameters
    ----------
    limits : ExplainLimits
        What one explanation may take.
    clock : Clock
        Deadlines.
    """

    def __init__(self, limits: ExplainLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        # One: two would take the cores that inference needs, for the same work done.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="explain")
        self._backgrounds: dict[str, Mapping[str, Array]] = {}
        self._waiting = 0
        self._log = get_logger("predictor")

    async def explain(
        self, plane: DataPlane, request: InferRequest, deadline: float | None
    ) -> InferResponse:
        """Answer one request with attributions instead of scores.

        Parameters
        ----------
        plane : DataPlane
            The model and its input policy.
        request : InferRequest
            Inputs as for inference; ``parameters`` may hold ``seed`` and ``samples``.
        deadline : float, optional
            Time of the clock by which to answer.

        Raises
        ------
        InvalidInputError
            The request breaks the contract or the limits.
        NotFoundError
            The package's reference cannot serve as a background.
        OverloadedError
            Others are being explained already.
        DeadlineError
            There was no time for even one estimate.
        """
        limits = self._limits
        output = _output(plane)
        checked = plane.policy.check(request)
        if checked.rejection is not None:
            raise checked.rejection
        if checked.rows > limits.rows:
            raise InvalidInputError(
                f"{checked.rows} rows, but at most {limits.rows} are explained at a time",
                where="inputs",
                fix="Send fewer rows",
            )
        seed = _parameter(request, "seed", 0, low=0, high=2**63 - 1)
        samples = _parameter(
            request, "samples", limits.samples, low=FEWEST_SAMPLES, high=limits.samples
        )
        names = [*(PREFIX + spec.name for spec in plane.model.contract.inputs), BASE]
        asked = _asked(request, names)
        if self._waiting >= MOST_WAITING:
            raise OverloadedError("other scores are being explained", where="explain")
        budget = _Budget(self._clock, deadline, limits.seconds)
        self._waiting += 1
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._worker,
                self._attribute, plane.model, output, checked.feed, seed, samples, budget,
            )  # fmt: skip
        finally:
            self._waiting -= 1
        tensors = [
            tensor(PREFIX + name, found.values[:, place].astype(np.float32))
            for place, name in enumerate(found.features)
        ]
        tensors.append(tensor(BASE, found.base.astype(np.float32)))
        parameters: dict[str, Any] = {
            "method": METHOD,
            "output": output,
            "samples": found.walks,
            "standard_error": float(found.errors.max()),
            "seed": seed,
        }
        outputs = tuple(item for item in tensors if item.name in asked)
        return InferResponse(plane.name, plane.version, outputs, request.id, parameters)

    def warm(self, model: Model) -> None:
        """Begin to read what an explanation of the model needs; return at once."""

        def read() -> None:
            try:
                self._background(model)
            except DavyError as error:
                self._log.warning(
                    "scores cannot be explained",
                    model=model.contract.name,
                    version=model.contract.version,
                    error=str(error),
                )

        self._worker.submit(read)

    def close(self) -> None:
        """Let the explanation under way end, and begin no other."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _attribute(
        self, model: Model, output: str, rows: Columns, seed: int, samples: int, budget: _Budget
    ) -> Attributions:
        def score(columns: Columns) -> Array:
            return model.run(columns, (output,))[0].data

        # Who waited in vain is told before anything is read for it.
        budget.begin()
        held = self._background(model)
        budget.begin()
        return attribute(
            score,
            rows,
            held,
            rng=np.random.default_rng(seed),
            more=budget.more,
            max_walks=samples,
        )

    def _background(self, model: Model) -> Mapping[str, Array]:
        held = self._backgrounds.get(model.identity)
        if held is None:
            held = background(model.package)
            if len(self._backgrounds) >= MOST_BACKGROUNDS:
                self._backgrounds.pop(next(iter(self._backgrounds)))
            self._backgrounds[model.identity] = held
        return held


class _Budget:
    """Decides whether there is time for another round of samples.

    Parameters
    ----------
    clock : Clock
        What the time is.
    deadline : float, optional
        When the client needs its answer.
    seconds : float
        Time from `begin` on, where the client names no deadline.
    """

    def __init__(self, clock: Clock, deadline: float | None, seconds: float) -> None:
        self._clock = clock
        self._deadline = deadline
        self._seconds = seconds
        self._stop = self._last = clock.monotonic()

    def begin(self) -> None:
        """Start to count.

        Raises
        ------
        DeadlineError
            The deadline is past.
        """
        now = self._clock.monotonic()
        left = self._seconds if self._deadline is None else self._deadline - now
        if left <= 0:
            raise late("explain")
        self._stop = now + (1 - RESERVE) * left
        self._last = now

    def more(self, walks: int) -> bool:
        """Tell whether a round that takes as long as the last one still fits; the first does."""
        now = self._clock.monotonic()
        took, self._last = now - self._last, now
        return walks == 0 or now + took < self._stop


def _output(plane: DataPlane) -> str:
    """Return the output to explain: the one that is counted and watched as the score."""
    contract = plane.model.contract
    for spec in contract.inputs:
        if spec.shape[:1] != [-1]:
            raise InvalidInputError("has no rows to explain", where=f"input '{spec.name}'")
    name = score_output(contract.outputs)
    for spec in contract.outputs:
        if spec.name == name and spec.datatype.startswith("FP") and spec.shape in ([-1], [-1, 1]):
            return name
    raise InvalidInputError(
        f"its score is the output '{name}', which is not one number a row",
        where=f"model '{contract.name}'",
        fix="Only such scores are explained",
    )


def _parameter(request: InferRequest, name: str, default: int, *, low: int, high: int) -> int:
    value = request.parameters.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise InvalidInputError(
            f"must be an integer from {low} to {high}", where=f"parameters '{name}'"
        )
    return value


def _asked(request: InferRequest, known: list[str]) -> frozenset[str]:
    names = frozenset(output.name for output in request.outputs)
    for name in names:
        if name not in known:
            raise InvalidInputError(
                f"an explanation has no such output; it has {', '.join(known)}",
                where=f"output '{name}'",
            )
    return names or frozenset(known)
