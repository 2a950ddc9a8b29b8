"""Values that identify a person, replaced before a body leaves the process.

Belongs here: the keyed hash and where in a body it is applied. Not here: which columns (settings).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace

import numpy as np

from davy.protocol.tensors import Tensor
from davy.protocol.v2 import (
    Encoded,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)


@dataclass(frozen=True, slots=True)
class Pseudonymiser:
    """HMAC-SHA256 of every value of some BYTES tensors, in hexadecimal.

    Equal values stay equal under one key, so that counting and joining still work.
    """

    columns: frozenset[str]
    key: bytes

    def request(self, encoded: Encoded) -> Encoded:
        """Return a request's body with the columns replaced."""
        if not self.columns:
            return encoded
        request = decode_request(*encoded)
        if self.columns.isdisjoint(tensor.name for tensor in request.inputs):
            return encoded
        return encode_request(
            replace(request, inputs=tuple(map(self._tensor, request.inputs))),
            binary=encoded.header_length is not None,
        )

    def response(self, encoded: Encoded) -> Encoded:
        """Return a response's body with the columns replaced."""
        if not self.columns:
            return encoded
        response = decode_response(*encoded)
        names = [tensor.name for tensor in response.outputs]
        if self.columns.isdisjoint(names):
            return encoded
        return encode_response(
            replace(response, outputs=tuple(map(self._tensor, response.outputs))),
            binary=names if encoded.header_length is not None else (),
        )

    def value(self, value: bytes) -> bytes:
        """Return the pseudonym of one value."""
        return hmac.digest(self.key, value, "sha256").hex().encode()

    def _tensor(self, tensor: Tensor) -> Tensor:
        if tensor.name not in self.columns or tensor.datatype != "BYTES":
            return tensor
        data = np.empty(tensor.shape, dtype=object)
        flat = [self.value(value) for value in tensor.data.ravel()]
        data.reshape(-1)[:] = flat
        return replace(tensor, data=data)
