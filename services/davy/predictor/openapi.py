"""The OpenAPI description of what a predictor answers: ``/openapi.json`` and ``/docs``.

Belongs here: the document, made from what is served, and the page that shows it.
Not here: answering any of the paths that it describes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from importlib.metadata import version as package_version
from typing import Any

import orjson

from davy.packaging.contract import Contract, TensorSpec
from davy.predictor.card import HTML, MARKDOWN
from davy.predictor.catalogue import Catalogue, Models
from davy.predictor.openapi_repository import CHANGE_SCHEMAS, CHANGES
from davy.protocol.tensors import DTYPES

Json = dict[str, Any]
Message = MutableMapping[str, Any]

DOCUMENT = "/openapi.json"
PAGE = "/docs"

_BINARY = "application/octet-stream"
_START = (
    'SwaggerUIBundle({url: "openapi.json", dom_id: "#docs", '
    "presets: [SwaggerUIBundle.presets.apis]})"
)
# The assets are those that BentoML carries: nothing is fetched from another host.
_HTML = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Davy predictor</title>
<link rel="stylesheet" href="static_content/swagger-ui.css"></head>
<body><div id="docs"></div><script src="static_content/swagger-ui-bundle.js"></script>
<script>{_START}</script></body></html>
""".encode()
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' "
    f"'sha256-{base64.b64encode(hashlib.sha256(_START.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
).encode()


class Docs:
    """Answers `DOCUMENT` and `PAGE`.

    Parameters
    ----------
    models : Models
        What is served.
    repository : bool
        Whether clients may change that.
    """

    def __init__(self, models: Models, *, repository: bool = False) -> None:
        self._models = models
        self._repository = repository

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],  # noqa: ARG002 (ASGI's signature)
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one HTTP request."""
        status, body, media_type = 200, _HTML, b"text/html; charset=utf-8"
        if scope["path"] == DOCUMENT:
            document = describe(self._models.catalogue, repository=self._repository)
            body, media_type = orjson.dumps(document), b"application/json"
        headers = [
            (b"content-security-policy", _POLICY),
            (b"x-content-type-options", b"nosniff"),
        ]
        if scope["method"] not in ("GET", "HEAD"):
            status, media_type = 405, b"application/json"
            body = orjson.dumps({"error": f"{scope['path']}: takes GET, HEAD"})
            headers.append((b"allow", b"GET, HEAD"))
        headers += [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        sent = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": sent})


def describe(catalogue: Catalogue, *, repository: bool = False) -> Json:
    """Return the OpenAPI document of the models that are served.

    Parameters
    ----------
    catalogue : Catalogue
        The models.
    repository : bool
        Whether clients may change what is served.
    """
    paths: Json = {
        "/v2": {"get": _get("Server metadata", "Server")},
        "/v2/health/live": {"get": _get("Whether the process lives", "Live")},
        "/v2/health/ready": {"get": _get("Whether requests are taken", "Ready", unready=True)},
    }
    for name in catalogue.names():
        contract = catalogue.find(name).plane.model.contract
        versions = list(catalogue.versions(name))
        paths |= _paths(f"/v2/models/{name}", contract)
        for path, item in _paths(f"/v2/models/{name}/versions/{{version}}", contract).items():
            paths[path] = {"parameters": [_version(versions)], **item}
    if repository:
        paths |= CHANGES
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Davy predictor",
            "version": package_version("davylamp"),
            "description": "Open Inference Protocol (V2). Errors name the place of the fault.",
        },
        "paths": paths,
        "components": {"schemas": _SCHEMAS | (CHANGE_SCHEMAS if repository else {})},
    }


def _paths(root: str, contract: Contract) -> Json:
    return {
        root: {"get": _get("Inputs and outputs of the model", "Model", absent=True)},
        f"{root}/ready": {"get": _get("Whether it is served", "Ready", unready=True, absent=True)},
        f"{root}/card": {"get": _card()},
        f"{root}/infer": {"post": _post("Scores of rows", contract)},
        f"{root}/explain": {
            "post": _post(
                "Shapley values of the output 'score', as tensors 'attribution:FEATURE' and "
                "'base_value' which add up to it. Parameters: 'samples', 'seed'",
                contract,
            )
        },
    }


def _version(versions: list[str]) -> Json:
    schema = {"type": "string", "enum": versions}
    return {"name": "version", "in": "path", "required": True, "schema": schema}


def _answer(description: str, schema: str) -> Json:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


def _get(summary: str, schema: str, *, unready: bool = False, absent: bool = False) -> Json:
    responses: Json = {"200": _answer("The document", schema)}
    if absent:
        responses["404"] = _answer("No such model or version", "Error")
    if unready:
        responses["503"] = _answer("The server is ending", schema)
    return {"summary": summary, "responses": responses}


def _card() -> Json:
    forms = {form: {"schema": {"type": "string"}} for form in (HTML, MARKDOWN)}
    return {
        "summary": "The model card",
        "responses": {
            "200": {"description": "The card of the package", "content": forms},
            "404": _answer("No such model, version or card", "Error"),
        },
    }


def _post(summary: str, contract: Contract) -> Json:
    body = {
        "schema": {"$ref": "#/components/schemas/InferRequest"},
        "example": {"inputs": [_row(spec) for spec in contract.inputs]},
    }
    response = _answer("The answer", "InferResponse")
    response["content"][_BINARY] = {"schema": {"type": "string", "format": "binary"}}
    refused = {
        "400": "Malformed, or against the contract",
        "404": "No such model or version",
        "408": "The body did not come whole in time",
        "413": "Too large",
        "415": "Content type or encoding not supported",
        "429": "Shed: try again later",
        "500": "The model cannot execute what its contract lets through",
        "503": "Shed: try again later",
        "504": "Not answered before its deadline",
    }
    return {
        "summary": summary,
        "parameters": [
            _header(
                "davy-timeout-ms",
                "Milliseconds after which nobody waits for the answer",
                maximum=3_600_000,
            ),
            _header(
                "Inference-Header-Content-Length",
                "Bytes of the JSON header where binary tensors follow it",
            ),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": body,
                _BINARY: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": response,
            **{status: _answer(text, "Error") for status, text in refused.items()},
        },
    }


def _header(name: str, description: str, maximum: int | None = None) -> Json:
    schema: Json = {"type": "integer", "minimum": 0}
    if maximum is not None:
        schema["maximum"] = maximum
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _row(spec: TensorSpec) -> Json:
    """Return one allowed row, as JSON."""
    shape = [1 if dimension < 0 else dimension for dimension in spec.shape]
    value: Any = spec.categories[0] if spec.categories else 0
    if not spec.categories and spec.range is not None:
        value = spec.range.low if spec.range.low is not None else spec.range.high or 0
    if spec.datatype == "BYTES":
        value = str(value) if spec.categories else ""
    elif spec.datatype == "BOOL":
        value = bool(value)
    elif not spec.datatype.startswith("FP"):
        value = int(value)
    count = 1
    for dimension in shape:
        count *= dimension
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": [value] * count}


_TEXT: Json = {"type": "string"}
_FLAG: Json = {"type": "boolean"}
_ANY_OBJECT: Json = {"type": "object"}


def _tensor(**fields: Json) -> Json:
    return {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"type": "string", "enum": list(DTYPES)},
            "parameters": _ANY_OBJECT,
            **fields,
        },
    }


def _object(**properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}


_DATA: Json = {"description": "Flat, or nested as the shape says", "type": "array"}
_TENSORS: Json = {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}}
_SCHEMAS: Json = {
    "Error": _object(error=_TEXT),
    "Server": _object(name=_TEXT, version=_TEXT, extensions={"type": "array", "items": _TEXT}),
    "Live": _object(live=_FLAG),
    "Ready": _object(ready=_FLAG),
    "Metadata": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": _TEXT,
            "datatype": {"type": "string", "enum": list(DTYPES)},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
        },
    },
    "Model": _object(
        name=_TEXT,
        versions={"type": "array", "items": _TEXT},
        platform=_TEXT,
        inputs={"type": "array", "items": {"$ref": "#/components/schemas/Metadata"}},
        outputs={"type": "array", "items": {"$ref": "#/components/schemas/Metadata"}},
    ),
    "Tensor": _tensor(data=_DATA),
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "maxLength": 256},
            "parameters": _ANY_OBJECT,
            "inputs": {**_TENSORS, "minItems": 1},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "minLength": 1},
                        "parameters": {
                            "type": "object",
                            "properties": {"binary_data": _FLAG},
                        },
                    },
                },
            },
        },
    },
    "InferResponse": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "parameters": _ANY_OBJECT,
            "outputs": _TENSORS,
        },
    },
}
