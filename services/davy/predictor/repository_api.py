"""The repository extension of the protocol: what is loaded, load, unload.

Belongs here: its bodies, and that clients name no folder but those that they may.
Not here: paths (`davy.predictor.routes`), loading (`davy.predictor.repository`).

Source: Triton's "Model Repository Extension"; ``path`` in the body, or among its ``parameters``,
is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from davy.core.errors import InvalidInputError
from davy.predictor.catalogue import Models
from davy.predictor.repository import Repository
from davy.predictor.sources import allowed


class RepositoryApi:
    """Answers the paths below ``/v2/repository``.

    Parameters
    ----------
    repository : Repository
        Loads and unloads.
    models : Models
        What is served.
    roots : sequence of Path
        Folders that packages may be loaded from.
    """

    def __init__(self, repository: Repository, models: Models, roots: Sequence[Path]) -> None:
        self._repository = repository
        self._models = models
        self._roots = tuple(roots)

    def index(self) -> list[dict[str, Any]]:
        """Return what is served."""
        return [
            {"name": entry.name, "version": entry.version, "state": "READY", "reason": ""}
            for entry in self._models.catalogue.entries
        ]

    async def load(self, name: str, body: bytes) -> dict[str, Any]:
        """Load a package and return what took over.

        Raises
        ------
        DavyError
            It cannot be served; what was served still is.
        """
        asked = _path(body)
        path = None if asked is None else allowed(asked, self._roots)
        served = await self._repository.load(name, path)
        return {"name": served.name, "version": served.version, "state": "READY"}

    async def unload(self, name: str) -> dict[str, Any]:
        """Unload a model and return what was unloaded.

        Raises
        ------
        NotFoundError
            It is not served here.
        """
        await self._repository.unload(name)
        return {"name": name, "state": "UNAVAILABLE"}


def _path(body: bytes) -> str | None:
    if not body.strip():
        return None
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"not JSON: {error}", where="body") from None
    if not isinstance(document, dict):
        raise InvalidInputError("must be a JSON object", where="body")
    parameters = document.get("parameters")
    path = document.get("path", parameters.get("path") if isinstance(parameters, dict) else None)
    if path is None:
        return None
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidInputError("must be the folder of a package", where="path")
    return path
