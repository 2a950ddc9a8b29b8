"""Server-side apply of plain documents.

Belongs here: where a kind of object is, writing it. Not here: which objects.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import ApiClient

MANAGER = "davy-bed"
# Kind -> its resource, and whether it is in a namespace.
KINDS = {
    "ClusterRole": ("clusterroles", False),
    "ClusterRoleBinding": ("clusterrolebindings", False),
    "ConfigMap": ("configmaps", True),
    "CustomResourceDefinition": ("customresourcedefinitions", False),
    "Deployment": ("deployments", True),
    "Gateway": ("gateways", True),
    "GatewayClass": ("gatewayclasses", False),
    "HTTPRoute": ("httproutes", True),
    "InferenceService": ("inferenceservices", True),
    "Namespace": ("namespaces", False),
    "NetworkPolicy": ("networkpolicies", True),
    "PersistentVolume": ("persistentvolumes", False),
    "PersistentVolumeClaim": ("persistentvolumeclaims", True),
    "PodDisruptionBudget": ("poddisruptionbudgets", True),
    "Role": ("roles", True),
    "RoleBinding": ("rolebindings", True),
    "Service": ("services", True),
    "ServiceAccount": ("serviceaccounts", True),
    "StatefulSet": ("statefulsets", True),
}


def apply(api: ApiClient, document: Mapping[str, Any], manager: str = MANAGER) -> dict[str, Any]:
    """Make an object, or change it to this, and return it."""
    version, metadata = document["apiVersion"], document["metadata"]
    plural, namespaced = KINDS[document["kind"]]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    place = f"/namespaces/{metadata['namespace']}" if namespaced else ""
    answer: dict[str, Any] = api.call_api(
        f"{root}{place}/{plural}/{metadata['name']}",
        "PATCH",
        query_params=[("fieldManager", manager), ("force", "true")],
        header_params={
            "Accept": "application/json",
            "Content-Type": "application/apply-patch+yaml",
        },
        body=document,
        response_type="object",
        _return_http_data_only=True,
        _request_timeout=20,
    )
    return answer


def manifest(path: Path, **values: str) -> Iterator[dict[str, Any]]:
    """Read the documents of a file whose $names have these values."""
    text = path.read_text(encoding="utf-8")
    filled = string.Template(text).substitute(values) if values else text
    yield from yaml.safe_load_all(filled)
