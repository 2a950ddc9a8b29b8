"""The data plane: one inference, from decoded request to response, whatever brought it here.

Belongs here: policy, execution and their counting, in order. Not here: HTTP, gRPC, payload events.
"""

from __future__ import annotations

from dataclasses import dataclass

from davy.core.errors import InvalidInputError
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import Model
from davy.predictor.validation import InputPolicy
from davy.protocol.v2 import InferRequest, InferResponse


@dataclass(frozen=True, slots=True)
class DataPlane:
    """One model behind its input policy."""

    model: Model
    policy: InputPolicy
    metrics: PredictorMetrics

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.contract.name

    @property
    def version(self) -> str:
        """The package's version: the arm."""
        return self.model.contract.version

    def infer(self, request: InferRequest) -> InferResponse:
        """Answer one request.

        Raises
        ------
        InvalidInputError
            The request breaks the contract; names input, row and rule.
        PermanentError
            The model cannot execute it.
        """
        outputs = self._outputs(request)
        checked = self.policy.check(request)
        if checked.violations:
            self.metrics.violated(checked.violations)
        if checked.rejection is not None:
            raise checked.rejection
        tensors = self.model.run(checked.feed, outputs)
        self.metrics.executed(checked.rows, tensors[0] if tensors else None)
        return InferResponse(self.name, self.version, tensors, request.id)

    def _outputs(self, request: InferRequest) -> tuple[str, ...]:
        known = tuple(spec.name for spec in self.model.contract.outputs)
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
