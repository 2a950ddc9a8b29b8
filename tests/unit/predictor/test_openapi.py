"""The OpenAPI document and the page around it."""

import asyncio
import base64
import hashlib
import re
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest

from davy.packaging.contract import TensorSpec
from davy.packaging.package import Package
from davy.predictor.catalogue import Catalogue, Models, Served
from davy.predictor.openapi import Docs, describe
from davy.predictor.payload import NoSink
from davy.predictor.routes import parse
from davy.predictor.validation import InputPolicy
from davy.protocol.v2 import decode_request


def catalogue(package: Package, **changes: Any) -> Catalogue:
    """Return a catalogue of one package behind a stand-in for its plane."""
    contract = package.contract.model_copy(update=changes)
    stand_in: Any = SimpleNamespace(
        name=contract.name, version=contract.version, model=SimpleNamespace(contract=contract)
    )
    return Catalogue((Served(stand_in, NoSink(), package.path),))


def get(package: Package, path: str, method: str = "GET") -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(Docs(Models(catalogue(package))))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://predictor") as client:
            return await client.request(method, path)

    return asyncio.run(go())


@pytest.mark.parametrize("repository", [False, True])
def test_every_path_is_a_route_with_its_methods(package: Package, repository: bool) -> None:
    document = describe(catalogue(package), repository=repository)
    kinds = set()
    for path, item in document["paths"].items():
        route = parse(path.format(version=package.contract.version, name="tiny"))
        kinds.add(route.kind)
        described = {name.upper() for name in item if name != "parameters"}
        assert described == set(route.methods) - {"HEAD"}, path
    assert kinds == {
        *("server", "live", "ready", "model", "model_ready", "card", "infer", "explain"),
        *(("index", "load", "unload") if repository else ()),
    }


@pytest.mark.parametrize("repository", [False, True])
def test_every_reference_leads_somewhere(package: Package, repository: bool) -> None:
    document = describe(catalogue(package), repository=repository)
    references = set(re.findall(r'"#/components/schemas/(\w+)"', orjson.dumps(document).decode()))
    assert references
    assert references == set(document["components"]["schemas"])


def test_only_the_time_to_wait_has_a_most(package: Package) -> None:
    """The other header counts bytes: the body's limit is its own."""
    post = describe(catalogue(package))["paths"][f"/v2/models/{package.contract.name}/infer"][
        "post"
    ]
    limits = {header["name"]: header["schema"].get("maximum") for header in post["parameters"]}
    assert limits == {"davy-timeout-ms": 3_600_000, "Inference-Header-Content-Length": None}


def test_the_example_is_a_request_that_the_contract_allows(package: Package) -> None:
    document = describe(catalogue(package))
    body = document["paths"]["/v2/models/tiny/infer"]["post"]["requestBody"]
    example = body["content"]["application/json"]["example"]
    checked = InputPolicy(package.contract.inputs).check(decode_request(orjson.dumps(example)))
    assert (checked.rows, checked.violations, checked.rejection) == (1, (), None)


def test_the_example_of_every_kind_of_input(package: Package) -> None:
    inputs = [
        TensorSpec(name="text", datatype="BYTES", categories=["a", "b"]),
        TensorSpec(name="any_text", datatype="BYTES"),
        TensorSpec(name="flag", datatype="BOOL", shape=[-1, 2]),
        TensorSpec(name="below", datatype="FP64", range={"high": -1.5}),
        TensorSpec(name="bounded", datatype="INT8", range={"low": 3}),
    ]
    document = describe(catalogue(package, inputs=inputs))
    body = document["paths"]["/v2/models/tiny/explain"]["post"]["requestBody"]
    example = body["content"]["application/json"]["example"]
    checked = InputPolicy(inputs).check(decode_request(orjson.dumps(example)))
    assert (checked.rows, checked.violations, checked.rejection) == (1, (), None)


def test_the_page_runs_its_own_script_and_no_other_hosts(package: Package) -> None:
    page = get(package, "/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    script = re.findall(r"<script>(.*?)</script>", page.text)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page.headers["content-security-policy"]
    assert "//" not in page.text
    assert get(package, "/openapi.json").json() == describe(catalogue(package))


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_only_reading_is_allowed(package: Package, path: str) -> None:
    refused = get(package, path, "POST")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert "takes GET, HEAD" in refused.json()["error"]
    head = get(package, path, "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(get(package, path).content)
