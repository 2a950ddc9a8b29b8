"""Decision records in ConfigMaps: where the API server is, the record is.

Belongs here: names, labels and owners of the ConfigMaps. Not here: which line goes to which chunk
(`davy.rollout.adapters.chunked_journal`).

They belong to their ModelRollout and go with it. The last one holds the lines as they are under
``record.jsonl``; those before it are full, and packed under ``record.jsonl.gz``: lines of one
record resemble each other. ``davy operator record`` joins them.
"""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from davy.core.errors import InvalidInputError
from davy.rollout.adapters.chunked_journal import Chunk, ChunkedJournal
from davy.rollout.adapters.kube_writes import KubernetesWrites
from davy.rollout.adapters.kubernetes_objects import Resource as Kind
from davy.rollout.operator.ports import Resource
from davy.rollout.spec import API_VERSION, KIND

CONFIG_MAPS = Kind("", "v1", "configmaps")
KEY = "record.jsonl"
PACKED_KEY = "record.jsonl.gz"
NAME_LABEL = "davylamp.dev/rollout"
UID_LABEL = "davylamp.dev/rollout-uid"
ATTEMPT_LABEL = "davylamp.dev/attempt"
CHUNK_LABEL = "davylamp.dev/chunk"


class ConfigMapChunks:
    """The chunks of one attempt of one rollout."""

    def __init__(self, objects: KubernetesWrites, resource: Resource, attempt: int) -> None:
        self._objects = objects
        self._resource = resource
        self._attempt = attempt

    def read(self) -> Sequence[Chunk]:
        """Return all, in any order."""
        selector = f"{UID_LABEL}={self._resource.uid},{ATTEMPT_LABEL}={self._attempt}"
        found = self._objects.select(CONFIG_MAPS, self._resource.namespace, selector)
        return [_chunk(item) for item in found]

    def version(self, number: int) -> str:
        """Return which writing of a chunk is there; empty where there is none."""
        resource = self._resource
        name = chunk_name(resource, self._attempt, number)
        found = self._objects.get(CONFIG_MAPS, resource.namespace, name)
        return "" if found is None else str(found["metadata"]["resourceVersion"])

    def create(self, number: int, data: bytes) -> Chunk:
        """Write a new one; `StaleError` when it is there already."""
        namespace = self._resource.namespace
        made = self._objects.create(CONFIG_MAPS, namespace, self._body(number, data))
        return _chunk(made)

    def replace(self, chunk: Chunk, data: bytes) -> Chunk:
        """Write over one; `StaleError` when it is not that version any more."""
        body = self._body(chunk.number, data)
        body["metadata"]["resourceVersion"] = chunk.version
        return _chunk(self._objects.replace(CONFIG_MAPS, self._resource.namespace, body))

    def seal(self, chunk: Chunk) -> None:
        """Pack one; `StaleError` when it is not that version any more."""
        body = self._body(chunk.number, chunk.data)
        body["metadata"]["resourceVersion"] = chunk.version
        del body["data"]
        packed = gzip.compress(chunk.data, mtime=0)
        body["binaryData"] = {PACKED_KEY: base64.b64encode(packed).decode()}
        self._objects.replace(CONFIG_MAPS, self._resource.namespace, body)

    def _body(self, number: int, data: bytes) -> dict[str, Any]:
        resource = self._resource
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": chunk_name(resource, self._attempt, number),
                "namespace": resource.namespace,
                "labels": {
                    NAME_LABEL: resource.name,
                    UID_LABEL: resource.uid,
                    ATTEMPT_LABEL: str(self._attempt),
                    CHUNK_LABEL: str(number),
                },
                "ownerReferences": [
                    {
                        "apiVersion": API_VERSION,
                        "kind": KIND,
                        "name": resource.name,
                        "uid": resource.uid,
                    }
                ],
            },
            "data": {KEY: data.decode()},
        }


class ConfigMapRecords:
    """The records of all rollouts.

    Parameters
    ----------
    objects : KubernetesWrites
        The API server.
    may_write : callable
        Asked before each write of a record.
    """

    def __init__(self, objects: KubernetesWrites, *, may_write: Callable[[], bool]) -> None:
        self._objects = objects
        self._may_write = may_write

    def attempt(self, resource: Resource) -> int:
        """Return the number of the last attempt that has a record; 0 when none has."""
        selector = f"{UID_LABEL}={resource.uid},{CHUNK_LABEL}=0"
        found = self._objects.select(CONFIG_MAPS, resource.namespace, selector)
        return max((int(item["metadata"]["labels"][ATTEMPT_LABEL]) for item in found), default=0)

    def journal(self, resource: Resource, attempt: int) -> ChunkedJournal:
        """Return the record of an attempt."""
        return ChunkedJournal(
            ConfigMapChunks(self._objects, resource, attempt),
            where=self.uri(resource, attempt),
            may_write=self._may_write,
        )

    def uri(self, resource: Resource, attempt: int) -> str:
        """Return where people find it."""
        return f"configmap:{resource.namespace}/{record_name(resource, attempt)}"


def record_name(resource: Resource, attempt: int) -> str:
    """Return what the names of a record's ConfigMaps begin with."""
    return f"{resource.name}-record-{resource.uid[:8]}-{attempt}"


def chunk_name(resource: Resource, attempt: int, number: int) -> str:
    """Return the name of one ConfigMap of a record."""
    return f"{record_name(resource, attempt)}-{number:04d}"


def _chunk(found: Mapping[str, Any]) -> Chunk:
    metadata = found["metadata"]
    try:
        number = int(metadata["labels"][CHUNK_LABEL])
        packed = (found.get("binaryData") or {}).get(PACKED_KEY)
        if packed is None:
            data = found["data"][KEY].encode()
        else:
            data = gzip.decompress(base64.b64decode(packed))
    except (KeyError, TypeError, ValueError, OSError, EOFError, zlib.error):
        raise InvalidInputError(
            "is no part of a decision record", where=f"configmap {metadata.get('name')}"
        ) from None
    return Chunk(number, data, str(metadata["resourceVersion"]), sealed=packed is not None)
