"""The data plane: one inference, from decoded request to response, whatever brought it here.

Belongs here: policy, execution and their counting, in order. Not here: HTTP, gRPC, payload events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from davy.core.errors import InvalidInputError
from davy.packaging.contract import score_output
from davy.predictor.batcher import Batcher
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import Model
from davy.predictor.outliers import FLAGS, OutlierFlags
from davy.predictor.outputs import OutputPolicy
from davy.predictor.segments import SegmentReader
from davy.predictor.turns import Turns
from davy.predictor.validation import InputPolicy
from davy.predictor.work import Executable, Outputs, Work
from davy.protocol.tensors import Array
from davy.protocol.v2 import InferRequest, InferResponse


@dataclass(frozen=True, slots=True)
class DataPlane:
    """One model behind its input policy; without a batcher, it executes requests as they come."""

    model: Model
    policy: InputPolicy
    metrics: PredictorMetrics
    batcher: Batcher | None = None
    outliers: OutlierFlags | None = None
    segments: SegmentReader | None = None
    _names: tuple[str, ...] = field(init=False)
    _score: str | None = field(init=False)
    _executes: Executable = field(init=False)
    _given: OutputPolicy = field(init=False)

    def __post_init__(self) -> None:
        """Look up once what every request asks for."""
        outputs = self.model.contract.outputs
        object.__setattr__(self, "_names", tuple(spec.name for spec in outputs))
        object.__setattr__(self, "_score", score_output(outputs))
        executes = self.model if self.outliers is None else self.outliers.model
        object.__setattr__(self, "_executes", executes)
        object.__setattr__(self, "_given", OutputPolicy(self.model.contract))

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.contract.name

    @property
    def version(self) -> str:
        """The package's version: the arm."""
        return self.model.contract.version

    def segment(self, request: InferRequest) -> int:
        """Return the place of the request's segment, as the metrics take it."""
        return 0 if self.segments is None else self.segments.place(request)

    async def answer(
        self, request: InferRequest, deadline: float | None = None, read: float | None = None
    ) -> InferResponse:
        """Answer one request in its turn.

        Parameters
        ----------
        request : InferRequest
            As decoded.
        deadline : float, optional
            When nobody waits for it any more, on the monotonic clock.
        read : float, optional
            When the event loop had read it, on the same clock.

        Raises
        ------
        InvalidInputError, PermanentError
            As `infer` does.
        OverloadedError, DeadlineError
            Too much is ahead of it, or it waited too long.
        """
        if self.batcher is None:
            return self.infer(request)
        work = self.prepare(request)
        return self.respond(request, work.rows, await self.batcher.run(work, deadline, read))

    def admit(self, turns: Turns) -> None:
        """Refuse a request that is still to be read, when there is no room whatever it asks.

        Parameters
        ----------
        turns : Turns
            Tell how long it may have waited for the event loop.

        Raises
        ------
        OverloadedError
            Too much waits.
        """
        if self.batcher is not None:
            error = self.batcher.refusal(turns)
            if error is not None:
                raise error

    def infer(self, request: InferRequest) -> InferResponse:
        """Answer one request at once, whoever waits.

        Raises
        ------
        InvalidInputError
            The request breaks the contract; names input, row and rule.
        PermanentError
            The model cannot execute it.
        """
        work = self.prepare(request)
        tensors = work.model.run(work.feed, work.outputs)
        self.metrics.executed(work.rows)
        return self.respond(request, work.rows, tensors)

    def prepare(self, request: InferRequest) -> Work:
        """Hold a request against the contract and return what it asks of the model.

        Raises
        ------
        InvalidInputError
            The request breaks the contract; names input, row and rule.
        """
        outputs = self._outputs(request)
        checked = self.policy.check(request)
        if checked.violations:
            self.metrics.violated(checked.violations)
        if checked.rejection is not None:
            raise checked.rejection
        return self._work(checked.feed, outputs, checked.rows)

    def outline(self, request: InferRequest) -> Work:
        """Return what a request asks of the model, its values not yet held against the contract.

        Raises
        ------
        FormError, InvalidInputError
            The request has not the form that the contract asks for.
        """
        feed, rows = self.policy.form(request)
        return self._work(feed, self._outputs(request), rows)

    def count_together(self, tensors: Outputs, rows: int) -> bool:
        """Count what the model gave for several requests; False when each is to be counted alone.

        Parameters
        ----------
        tensors : tuple of Tensor
            As executed.
        rows : int
            Of all of them.
        """
        given = tensors if self.outliers is None else tensors[:-1]
        if self.segments is not None or self._given.broken(given, rows) is not None:
            return False
        self._count_scores(given, 0)
        return True

    def respond(
        self, request: InferRequest, rows: int, tensors: Outputs, *, counted: bool = False
    ) -> InferResponse:
        """Return what the model gave for a request of so many rows, and count it.

        ``counted``: scores and broken rules are (`count_together`).
        """
        segment = self.segment(request)
        told: Mapping[str, Any] = {}
        if self.outliers is not None:
            *given, flags = tensors
            tensors = tuple(given)
            told = self.outliers.parameters(flags.data, segment)
        if not counted:
            self._count_scores(tensors, segment)
            broken = self._given.broken(tensors, rows)
            if broken is not None:
                self.metrics.broke(*broken, segment)
        return InferResponse(self.name, self.version, tensors, request.id, told)

    def _work(self, feed: Mapping[str, Array], outputs: tuple[str, ...], rows: int) -> Work:
        if self.outliers is not None:
            outputs = (*outputs, FLAGS)
        return Work(self._executes, self.metrics, feed, outputs, rows)

    def _count_scores(self, tensors: Outputs, segment: int) -> None:
        for tensor in tensors:
            if tensor.name == self._score:
                self.metrics.scored(tensor, segment)

    def _outputs(self, request: InferRequest) -> tuple[str, ...]:
        known = self._names
        if not request.outputs:
            return known
        for asked in request.outputs:
            if asked.name not in known:
                raise InvalidInputError(
                    f"the model has no such output; it has {', '.join(known)}",
                    where=f"output '{asked.name}'",
                )
        names = tuple(asked.name for asked in request.outputs)
        if len(set(names)) != len(names):
            raise InvalidInputError("an output is asked for twice", where="outputs")
        return names
