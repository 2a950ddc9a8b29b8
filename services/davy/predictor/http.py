"""Headers of an inference request and the answers to it, before any server is involved.

Belongs here: what a request's headers mean, what each answer and each refusal holds.
Not here: how bytes are read and written (`davy.predictor.handler`, `davy.predictor.lane_protocol`),
inference (`davy.predictor.plane`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import orjson

from davy.core.clock import Clock
from davy.core.errors import DavyError, InvalidInputError, TemporaryError
from davy.predictor.catalogue import Served
from davy.predictor.inference import in_time
from davy.predictor.payload import Exchange
from davy.protocol.v2 import Encoded, InferRequest, InferResponse, encode_response

Headers = list[tuple[bytes, bytes]]

MAX_MESSAGE_LENGTH = 1000
MAX_TIMEOUT_MS = 3_600_000
# For a body to come whole. Nothing else ends a client that stops half-way, and the end of the
# process waits for it; shorter than the half minute that a Pod is given to end.
BODY_SECONDS = 20.0
TIMEOUT_HEADER = "davy-timeout-ms"

_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_MEDIA_TYPES = frozenset({b"", b"application/json", b"application/octet-stream"})
CLOSE = (b"connection", b"close")


class Answer(NamedTuple):
    """A status and a body, with the headers that only this answer has.

    ``segment`` is the place of its request's segment, as the metrics take it.
    """

    status: int
    encoded: Encoded
    version: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    media_type: tuple[bytes, bytes] | None = None
    segment: int = 0

    def all_headers(self, version: str, *, closing: bool) -> Headers:
        """Return the headers to send.

        Parameters
        ----------
        version : str
            The model's version where the answer does not say it; empty if there is none to say.
        closing : bool
            The connection is not to be used again.
        """
        length = self.encoded.header_length
        headers = [
            self.media_type or (_JSON if length is None else _BINARY),
            (b"content-length", b"%d" % len(self.encoded.body)),
            *self.headers,
        ]
        version = self.version or version
        if version:
            headers.append((b"davy-model-version", version.encode()))
        if length is not None:
            headers.append((b"inference-header-content-length", b"%d" % length))
        if closing:
            headers.append(CLOSE)
        return headers


class InferHeaders(NamedTuple):
    """The headers that an inference request may carry."""

    media_type: bytes = b""
    encoding: bytes = b""
    content_length: int | None = None
    header_length: int | None = None
    timeout_seconds: float | None = None


def read_headers(raw: Headers) -> InferHeaders:
    """Return what the headers of an inference request say; their names are in lower case.

    Raises
    ------
    InvalidInputError
        One of them is not what it must be.
    """
    media_type = encoding = b""
    content_length = header_length = None
    timeout: float | None = None
    for name, value in raw:
        if name == b"content-type":
            media_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-length":
            content_length = _integer(value, "content-length")
        elif name == b"content-encoding":
            encoding = value.strip().lower()
        elif name == b"inference-header-content-length":
            header_length = _integer(value, "inference-header-content-length")
        elif name == b"davy-timeout-ms":
            timeout = _integer(value, "davy-timeout-ms", MAX_TIMEOUT_MS) / 1000
    return InferHeaders(media_type, encoding, content_length, header_length, timeout)


def read_accept(raw: Headers) -> str:
    """Return the media types that the client takes."""
    return ",".join(value.decode("latin-1") for name, value in raw if name == b"accept")


def unwelcome(headers: InferHeaders, max_body_bytes: int) -> Answer | None:
    """Return why a request is refused for its headers, None when it is not."""
    if headers.media_type not in _MEDIA_TYPES:
        return problem(
            415,
            f"content-type '{headers.media_type.decode('latin-1')}' is not supported. "
            "Send application/json, or application/octet-stream with "
            "Inference-Header-Content-Length",
        )
    if headers.encoding not in (b"", b"identity"):
        return problem(
            415,
            f"content-encoding '{headers.encoding.decode('latin-1')}' is not supported. "
            "Send the body as it is",
        )
    if headers.content_length is not None and headers.content_length > max_body_bytes:
        return too_large(max_body_bytes)
    return None


def answered(
    served: Served,
    request: InferRequest,
    response: InferResponse,
    body: Encoded,
    deadline: float | None,
    clock: Clock,
    *,
    logged: bool = True,
) -> Answer:
    """Return the answer of an inference, and tell the payload log of it.

    Parameters
    ----------
    served : Served
        What answered.
    request, response : InferRequest, InferResponse
        As decoded, as executed.
    body : Encoded
        The request as it came.
    deadline : float, optional
        When nobody waits for it any more, on the monotonic clock.
    clock : Clock
        Tells both times.
    logged : bool
        Whether the payload log is to know.

    Raises
    ------
    DeadlineError
        It is past.
    InvalidInputError
        The response cannot be written in the form that was asked for.
    """
    binary = [tensor.name for tensor in response.outputs if request.binary(tensor.name)]
    encoded = encode_response(response, binary=binary)
    in_time(clock, deadline, TIMEOUT_HEADER)
    if logged and served.sink.wants(request.id):
        served.sink.put(Exchange(request.id, clock.now(), body, encoded))
    return Answer(200, encoded, served.version)


def too_large(max_body_bytes: int) -> Answer:
    """Return the answer to a body beyond the limit."""
    # What is left of the body is not read, so the connection cannot be used again.
    return problem(
        413, f"the body is larger than {max_body_bytes} bytes. Send fewer rows at a time", CLOSE
    )


def body_late() -> Answer:
    """Return the answer to a body that stopped half-way."""
    # The rest may still come, so the connection cannot be used again.
    return problem(
        408,
        f"the body did not come whole within {BODY_SECONDS:g} s. Send it faster, or fewer rows",
        CLOSE,
    )


def refusal(error: DavyError) -> Answer:
    """Return the answer that tells an error."""
    if isinstance(error, TemporaryError) and error.http_status == 503:
        after = (b"retry-after", str(math.ceil(error.delay)).encode())
        return problem(error.http_status, str(error), after)
    return problem(error.http_status, str(error))


def problem(status: int, message: str, *headers: tuple[bytes, bytes]) -> Answer:
    """Return an answer that says what is wrong."""
    # Names from a request can be as long as its body.
    if len(message) > MAX_MESSAGE_LENGTH:
        message = f"{message[:MAX_MESSAGE_LENGTH]}…"
    return Answer(status, Encoded(orjson.dumps({"error": message}), None), headers=headers)


def _integer(value: bytes, name: str, limit: int = 10**15) -> int:
    # int() alone also takes signs, underscores and endless digits. Spaces around are not of it.
    value = value.strip(b" \t")
    if value.isdigit() and len(value) <= 16:
        number = int(value)
        if number <= limit:
            return number
    raise InvalidInputError(f"must be an integer from 0 to {limit}", where=name)
