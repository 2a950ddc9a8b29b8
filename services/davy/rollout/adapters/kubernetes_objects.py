"""Kubernetes objects as plain dictionaries, over the official client's connection.

Belongs here: paths, content types, what an HTTP status means. Not here: what the objects say.

The typed classes of the client know neither custom resources nor merge patches of them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from kubernetes.client import ApiClient, ApiException

from davy.core.errors import (
    ConfigurationError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    TemporaryError,
    UnavailableError,
)
from davy.rollout.kserve.service import FIELD_MANAGER

TIMEOUT_SECONDS = 10.0


class Resource(NamedTuple):
    """A kind of namespaced object; the group of core objects is empty."""

    group: str
    version: str
    plural: str


class StaleError(TemporaryError):
    """The object was changed since it was read, or made by somebody else meanwhile."""


class NotLeadingError(TemporaryError):
    """Another process may be at work: nothing was sent."""


class RefusedByServerError(InvalidInputError):
    """The API server, or one of its admission webhooks, does not take the object."""


class KubernetesObjects:
    """Reads and writes objects of one API server.

    Parameters
    ----------
    api : ApiClient
        Of the official client; whoever made it closes it.
    field_manager : str
        Under which name the API server notes what is written.
    may_write : callable, optional
        Asked right before each request that is not a GET: an operator that is not the leader any
        more writes nothing.
    """

    def __init__(
        self,
        api: ApiClient,
        *,
        field_manager: str = FIELD_MANAGER,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._api = api
        self._may_write = may_write
        self._managed = [("fieldManager", field_manager)]

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """Return an object, None when there is none."""
        try:
            return self._call("GET", object_path(resource, namespace, name))
        except NotFoundError:
            return None

    def select(
        self, resource: Resource, namespace: str, selector: str = ""
    ) -> tuple[dict[str, Any], ...]:
        """Return the objects with these labels."""
        query = [("labelSelector", selector)] if selector else []
        found = self._call("GET", object_path(resource, namespace), query=query)
        return tuple(found.get("items") or ())

    def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object, and return it as it was made; `StaleError` when it exists."""
        return self._call("POST", object_path(resource, namespace), body=body, query=self._managed)

    def replace(
        self, resource: Resource, namespace: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write a whole object over the version that it names, and return it as it is then.

        `StaleError` if there is another version.
        """
        path = object_path(resource, namespace, body["metadata"]["name"])
        return self._call("PUT", path, body=body, query=self._managed)

    def merge_patch(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]
    ) -> None:
        """Write what differs, over the version that `body` names; `StaleError` if another."""
        kind = "application/merge-patch+json"
        self._call(
            "PATCH",
            object_path(resource, namespace, name),
            body=body,
            query=self._managed,
            kind=kind,
        )

    def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """Remove an object; one that is not there is removed already."""
        with contextlib.suppress(NotFoundError):
            self._call("DELETE", object_path(resource, namespace, name))

    def serves(self, group: str, version: str, plural: str) -> bool:
        """Say whether the API server knows a resource."""
        try:
            found = self._call("GET", f"/apis/{group}/{version}")
        except NotFoundError:
            return False
        return any(item.get("name") == plural for item in found.get("resources") or ())

    def raw(self, path: str) -> dict[str, Any] | None:
        """Return what a path answers, None when there is nothing."""
        try:
            return self._call("GET", path)
        except NotFoundError:
            return None

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        kind: str = "application/json",
    ) -> dict[str, Any]:
        if method != "GET" and not self._may_write():
            raise NotLeadingError(
                "not the leader any more: nothing was written", where=f"{method} {path}", delay=5.0
            )
        try:
            answer = self._api.call_api(
                path,
                method,
                query_params=list(query),
                header_params={"Accept": "application/json", "Content-Type": kind},
                body=body,
                response_type="object",
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=TIMEOUT_SECONDS,
            )
        except ApiException as error:
            raise _meaning(error, f"{method} {path}") from None
        except Exception as error:  # urllib3's, which the client lets through
            raise UnavailableError(
                f"the API server does not answer ({error})", where=f"{method} {path}"
            ) from error
        found: dict[str, Any] = answer
        return found


def object_path(resource: Resource, namespace: str, name: str = "") -> str:
    """Return where the API server has an object, or all of a kind."""
    group = f"apis/{resource.group}" if resource.group else "api"
    place = f"/{group}/{resource.version}/namespaces/{quote(namespace)}/{resource.plural}"
    return f"{place}/{quote(name)}" if name else place


def _meaning(error: ApiException, where: str) -> PermanentError | TemporaryError:
    message = _message(error)
    if error.status == 404:
        return NotFoundError(message, where=where)
    if error.status == 409:
        return StaleError(message, where=where)
    if error.status in {400, 403, 422} and "admission webhook" in message:
        return RefusedByServerError(message, where=where)
    if error.status in {400, 422}:
        return RefusedByServerError(message, where=where)
    if error.status in {401, 403}:
        return ConfigurationError(
            message, where=where, fix="Give the operator's service account this permission"
        )
    return UnavailableError(f"the API server answers {error.status}: {message}", where=where)


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
