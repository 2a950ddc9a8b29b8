"""Admission webhooks on loopback, as the API server calls them.

Belongs here: the HTTPS server, its registration. Not here: the rules (`kserve_rules`).
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kubernetes import client
from tests.cluster.bed import kserve_rules
from tests.cluster.bed.apiserver import ApiServer

NAME = "kserve-standin"


class _Reviews(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        request = json.loads(self.rfile.read(length))["request"]
        response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
        if self.path.startswith("/mutate"):
            patch = json.dumps(kserve_rules.defaults(request["object"])).encode()
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
        else:
            reason = kserve_rules.refusal(request["object"], request.get("oldObject"))
            if reason is not None:
                response |= {"allowed": False, "status": {"code": 403, "message": reason}}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        body = json.dumps({**review, "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def kserve_webhooks(server: ApiServer, address: str = "127.0.0.1") -> Iterator[None]:
    """Answer for InferenceServices at an address of this machine while the block runs."""
    certificate, key = server.authority.issue("webhooks", "kserve-webhooks", hosts=[address])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    http = ThreadingHTTPServer((address, 0), _Reviews)
    http.daemon_threads = True
    http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        # Of a server that outlives this block, and of a block that was killed.
        _unregister(server)
        _register(server, f"https://{address}:{http.server_address[1]}")
        yield
    finally:
        _unregister(server)
        http.shutdown()
        thread.join()
        http.server_close()


def _register(server: ApiServer, url: str) -> None:
    authority = base64.b64encode(server.authority.certificate.read_bytes()).decode()
    rule = {
        "apiGroups": ["serving.kserve.io"],
        "apiVersions": ["v1beta1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["inferenceservices"],
    }

    def configuration(kind: str, path: str) -> dict[str, Any]:
        hook = {
            "name": f"{path}.standin.kserve.io",
            "clientConfig": {
                "url": f"{url}/{path}",
                "caBundle": authority,
            },
            "rules": [rule],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": f"{NAME}-{path}"},
            "webhooks": [hook],
        }

    with server.client() as api:
        registration = client.AdmissionregistrationV1Api(api)
        registration.create_mutating_webhook_configuration(
            configuration("MutatingWebhookConfiguration", "mutate")
        )
        registration.create_validating_webhook_configuration(
            configuration("ValidatingWebhookConfiguration", "validate")
        )


def _unregister(server: ApiServer) -> None:
    with server.client() as api:
        registration = client.AdmissionregistrationV1Api(api)
        for delete, path in (
            (registration.delete_mutating_webhook_configuration, "mutate"),
            (registration.delete_validating_webhook_configuration, "validate"),
        ):
            try:
                delete(f"{NAME}-{path}")
            except client.ApiException as error:
                if error.status != 404:
                    raise
