"""The API server that kubectl would talk to.

Belongs here: context, namespace, credentials of a kubeconfig or of a pod. Not here: any object.
"""

from __future__ import annotations

from typing import Any

from davy.core.errors import ConfigurationError, MissingDependencyError

# Apart from the operator's, so that the API server tells whose change a field was.
FIELD_MANAGER = "davy-cli"


def connect(context: str | None, namespace: str | None) -> tuple[Any, str]:
    """Return `KubernetesWrites` of the API server, and the namespace.

    Parameters and errors are those of `client`.
    """
    api, found = client(context, namespace)
    from davy.rollout.adapters.kube_writes import KubernetesWrites

    return KubernetesWrites(api, field_manager=FIELD_MANAGER), found


def client(context: str | None, namespace: str | None) -> tuple[Any, str]:
    """Return the official client's `ApiClient`, and the namespace.

    Parameters
    ----------
    context : str, optional
        Of the kubeconfig; its current one when left out.
    namespace : str, optional
        The context's when left out, else ``default``.

    Raises
    ------
    MissingDependencyError
        The Kubernetes client is not installed.
    ConfigurationError
        There is no kubeconfig, or no such context.
    """
    try:
        from kubernetes import config
        from kubernetes.client import ApiClient
        from kubernetes.config.config_exception import ConfigException
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"a cluster needs {error.name}", where="davy rollout",
            fix="Install the extra: pip install 'davylamp[operator]'",
        ) from None  # fmt: skip
    try:
        contexts, active = config.list_kube_config_contexts()
        chosen = active if context is None else next(c for c in contexts if c["name"] == context)
        api: ApiClient = config.new_client_from_config(context=chosen["name"])
    except StopIteration:
        known = ", ".join(sorted(item["name"] for item in contexts)) or "none"
        raise ConfigurationError(
            f"no such context (known: {known})", where=f"--context {context}"
        ) from None
    except ConfigException as error:
        raise ConfigurationError(
            f"no cluster is configured ({error})", where="KUBECONFIG",
            fix="Set KUBECONFIG (without a cluster a rollout is named by its folder)",
        ) from None  # fmt: skip
    found = namespace or chosen["context"].get("namespace") or "default"
    return api, found
