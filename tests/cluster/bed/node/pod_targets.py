"""Which pods Prometheus scrapes: those annotated so, written to a file that it watches.

Belongs here: pods to targets. Not here: Prometheus (`addons`).

``python -m tests.cluster.bed.node.pod_targets FILE`` runs until it is ended; Debian's Prometheus is
built without the discovery of pods that others have.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kubernetes import client, config

PERIOD_SECONDS = 1.0
ANNOTATION = "prometheus.io"
SERVICE = "serving.kserve.io/inferenceservice"


def targets(pods: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the targets of the pods that run and ask to be scraped."""
    found = []
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        wanted = metadata.get("annotations") or {}
        address = status.get("podIP")
        if wanted.get(f"{ANNOTATION}/scrape") != "true" or not address:
            continue
        if status.get("phase") != "Running":
            continue
        labels = {
            "namespace": metadata["namespace"],
            "pod": metadata["name"],
            "__metrics_path__": wanted.get(f"{ANNOTATION}/path", "/metrics"),
        }
        if service := (metadata.get("labels") or {}).get(SERVICE):
            labels["serving_kserve_io_inferenceservice"] = service
        port = wanted.get(f"{ANNOTATION}/port", "8080")
        found.append({"targets": [f"{address}:{port}"], "labels": labels})
    return found


def main(path: Path) -> None:
    """Write the file whenever the pods have changed."""
    api = config.new_client_from_config()
    written = ""
    while True:
        try:
            answer = api.call_api(
                "/api/v1/pods", "GET", response_type="object", _return_http_data_only=True,
                _request_timeout=10,
            )  # fmt: skip
        except (client.ApiException, OSError) as error:
            sys.stderr.write(f"pods cannot be listed: {error}\n")
        else:
            text = json.dumps(targets(answer["items"]))
            if text != written:
                unfinished = path.with_suffix(".new")
                unfinished.write_text(text, encoding="utf-8")
                unfinished.rename(path)
                written = text
        time.sleep(PERIOD_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
