"""The OpenAPI description of the repository's paths, for predictors that answer them.

Belongs here: index, load, unload. Not here: the rest of the document (`davy.predictor.openapi`).
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_NAME: Json = {"name": "name", "in": "path", "required": True, "schema": {**_TEXT, "minLength": 1}}
_FOLDER: Json = {
    "type": "string",
    "minLength": 1,
    "description": "The package's folder, below those of DAVY_PREDICTOR_REPOSITORY_ROOTS",
}


def _answer(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _error(description: str) -> Json:
    return _answer(description, {"$ref": "#/components/schemas/Error"})


def _state(*states: str) -> Json:
    properties = {"name": _TEXT, "version": _TEXT, "state": {**_TEXT, "enum": list(states)}}
    return {"type": "object", "required": ["name", "state"], "properties": properties}


_INDEX: Json = {
    "summary": "Every version of every model that is served",
    "responses": {
        "200": _answer(
            "The models",
            {"type": "array", "items": {"$ref": "#/components/schemas/RepositoryModel"}},
        ),
        "408": _error("The body did not come whole in time"),
        "413": _error("The body is too large"),
    },
}
_LOAD: Json = {
    "summary": "Verify, open and warm a package, which then takes over",
    "requestBody": {
        "description": "Nothing, to load the folder that it was loaded from last",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/LoadRequest"}}},
    },
    "responses": {
        "200": _answer("It took over", _state("READY")),
        "400": _error("Malformed, another model's package, or a folder that may not be named"),
        "404": _error("No such package"),
        "408": _error("The body did not come whole in time"),
        "413": _error("The body is too large"),
        "422": _error("Its hashes or its signature do not match; what was served still is"),
        "500": _error("It cannot be opened or executed; what was served still is"),
    },
}
_UNLOAD: Json = {
    "summary": "Serve no version of a model any longer",
    "responses": {
        "200": _answer("It is served no longer", _state("UNAVAILABLE")),
        "404": _error("No such model"),
        "408": _error("The body did not come whole in time"),
        "413": _error("The body is too large"),
    },
}
CHANGES: Json = {
    "/v2/repository/index": {"post": _INDEX},
    "/v2/repository/models/{name}/load": {"parameters": [_NAME], "post": _LOAD},
    "/v2/repository/models/{name}/unload": {"parameters": [_NAME], "post": _UNLOAD},
}
CHANGE_SCHEMAS: Json = {
    "RepositoryModel": {
        "type": "object",
        "required": ["name", "version", "state", "reason"],
        "properties": {
            "name": _TEXT,
            "version": _TEXT,
            "state": {**_TEXT, "enum": ["READY"]},
            "reason": _TEXT,
        },
    },
    "LoadRequest": {
        "type": "object",
        "properties": {
            "path": _FOLDER,
            "parameters": {"type": "object", "properties": {"path": _FOLDER}},
        },
    },
}
