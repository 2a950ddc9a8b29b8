import asyncio
import gc
import shutil
import socket
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from davy.core.clock import SystemClock
from davy.core.errors import DavyError, IntegrityError, InvalidInputError, NotFoundError
from davy.packaging.package import Package
from davy.predictor.assembly import Assembly, assemble
from davy.predictor.grpc_server import SERVICE
from davy.predictor.settings import PredictorSettings
from davy.predictor.sources import discover, fingerprint
from davy.protocol import open_inference_pb2 as messages
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, decode_response, encode_request


def content(amount: float = 50.0) -> bytes:
    columns = {
        "kind": np.array([3]),
        "amount": np.array([amount], np.float32),
        "visits": np.ones(1, np.float32),
        "channel": np.array([1]),
    }
    return encode_request(InferRequest(tuple(tensor(n, d) for n, d in columns.items()))).body


@pytest.fixture
def make_package(tiny: ModuleType, tmp_path: Path) -> Callable[..., Package]:
    def make(weight: float, name: str = "tiny", day: int = 1) -> Package:
        created = f"2018-01-{day:02}T00:00:00+00:00"
        return tiny.write_tiny_package(tmp_path, weight=weight, name=name, created=created)

    return make


def run(
    registry: CollectorRegistry, work: Callable[[Assembly, httpx.AsyncClient], Any], **settings: Any
) -> Any:
    async def go() -> Any:
        assembly = assemble(
            PredictorSettings(repository_api=True, **settings),
            registry=registry,
            clock=SystemClock(),
        )
        await assembly.start()
        transport = httpx.ASGITransport(assembly.handler)  # type: ignore[arg-type]
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://p") as client:
                return await work(assembly, client)
        finally:
            await assembly.close()

    return asyncio.run(go())


async def version(client: httpx.AsyncClient, path: str = "/v2/models/tiny/infer") -> str:
    answer = await client.post(path, content=content())
    assert answer.status_code == 200, answer.text
    found = decode_response(answer.content).model_version
    assert answer.headers["davy-model-version"] == found
    return found


def test_several_packages_are_served_by_name_and_version(
    make_package: Callable[..., Package], registry: CollectorRegistry
) -> None:
    old, new = make_package(0.01, day=1), make_package(0.02, day=2)
    other = make_package(0.03, name="other")

    async def work(assembly: Assembly, client: httpx.AsyncClient) -> None:
        assert await version(client) == new.contract.version
        for package in (old, new, other):
            name, wanted = package.contract.name, package.contract.version
            path = f"/v2/models/{name}/versions/{wanted}/infer"
            assert await version(client, path) == wanted
        metadata = (await client.get("/v2/models/tiny")).json()
        assert metadata["versions"] == [old.contract.version, new.contract.version]
        assert metadata["parameters"]["execution_providers"] == "CPUExecutionProvider"
        missing = await client.get("/v2/models/neither")
        assert "This server has " in missing.json()["error"]
        assert "davy-model-version" not in missing.headers
        assert "model_repository" in (await client.get("/v2")).json()["extensions"]
        index = (await client.post("/v2/repository/index")).json()
        assert {(e["name"], e["version"]) for e in index} == {
            (p.contract.name, p.contract.version) for p in (old, new, other)
        }
        text = generate_latest(registry).decode()
        for package, count in ((old, 1), (new, 2), (other, 1)):
            labels = {"model": package.contract.name, "version": package.contract.version}
            found = registry.get_sample_value("davy_requests_total", {**labels, "outcome": "ok"})
            assert found == count
            assert registry.get_sample_value("davy_request_seconds_count", labels) == count
        assert text.count("# TYPE davy_request_seconds histogram") == 1

    # Once as a list, once as the store that holds them.
    run(registry, work, models=(new.path, other.path, old.path))
    registry = CollectorRegistry()
    run(registry, work, model_dir=new.path.parent.parent)


def test_load_takes_over_and_unload_lets_go(
    make_package: Callable[..., Package], registry: CollectorRegistry
) -> None:
    first, second = make_package(0.01), make_package(0.02)

    async def work(assembly: Assembly, client: httpx.AsyncClient) -> None:
        url = "/v2/repository/models/tiny"
        answer = await client.post(f"{url}/load", json={"path": str(second.path)})
        assert answer.json()["version"] == second.contract.version
        assert await version(client) == second.contract.version
        gone = f"/v2/models/tiny/versions/{first.contract.version}/infer"
        assert (await client.post(gone, content=content())).status_code == 404
        # As tritonclient writes it; and back to the older one.
        body = {"parameters": {"path": str(first.path)}}
        assert (await client.post(f"{url}/load", json=body)).status_code == 200
        assert await version(client) == first.contract.version
        assert (await client.post(f"{url}/unload")).status_code == 200
        assert (await client.post(f"{url}/unload")).status_code == 404
        assert (await client.get("/v2/models/tiny/ready")).status_code == 404
        # With nothing to ask it, a load balancer is to send nobody.
        empty = await client.get("/v2/health/ready")
        assert (empty.status_code, empty.json()) == (503, {"ready": False})
        assert (await client.get("/v2/health/live")).status_code == 200
        served = {"model": "tiny", "quantization": "fp32", "version": first.contract.version}
        served["identity"] = first.identity
        assert registry.get_sample_value("davy_model_info", served) == 0
        assert (await client.post(f"{url}/load")).json()["version"] == first.contract.version
        assert await version(client) == first.contract.version
        assert (await client.get("/v2/health/ready")).status_code == 200
        assert registry.get_sample_value("davy_model_info", served) == 1

    run(registry, work, model_dir=first.path, repository_roots=(first.path.parent,))


@pytest.mark.parametrize("warm", [False, True])
def test_explanations_are_warmed_for_what_is_loaded_when_asked_for(
    make_package: Callable[..., Package], registry: CollectorRegistry, warm: bool
) -> None:
    first, second = make_package(0.01), make_package(0.02)

    async def work(assembly: Assembly, client: httpx.AsyncClient) -> None:
        await assembly.repository.load("tiny", second.path)
        await asyncio.wrap_future(assembly.explainer._worker.submit(lambda: None))
        found = set(assembly.explainer._backgrounds)
        assert found == ({first.identity, second.identity} if warm else set())

    run(registry, work, model_dir=first.path, explain_warm=warm)


def test_a_client_names_no_folder_outside_the_roots(
    make_package: Callable[..., Package], registry: CollectorRegistry, tmp_path: Path
) -> None:
    first = make_package(0.01)
    store = first.path.parent.parent
    root = tmp_path / "root"
    shutil.copytree(store, root)
    inner, outer = root / "link-inside", root / "link-outside"
    inner.symlink_to(first.path.relative_to(store))
    outer.symlink_to(first.path)
    circle = root / "circle"
    circle.symlink_to(circle)

    async def work(assembly: Assembly, client: httpx.AsyncClient) -> None:
        async def load(path: str) -> httpx.Response:
            return await client.post("/v2/repository/models/tiny/load", json={"path": path})

        served = assembly.repository.models.find("tiny")
        outside = "DAVY_PREDICTOR_REPOSITORY_ROOTS"
        for path, message in (
            (str(first.path), outside),
            (str(outer), outside),
            ("link-outside", outside),
            ("/", outside),
            ("/nowhere/at/all", outside),
            (f"{root}-beside", outside),
            (f"{root}/../{store.name}", "'..'"),
            ("../store", "'..'"),
            ("a/../../b", "'..'"),
            (f"{root}/{'x' * 5000}", "no path"),
            ("x" * 5000, "no path"),
            (str(circle), "no path"),
            ("\0", "must be the folder"),
            ("", "must be the folder"),
        ):
            answer = await load(path)
            assert answer.status_code == 400, (path, answer.text)
            assert message in answer.json()["error"], path
            assert assembly.repository.models.find("tiny") is served
        version = str(first.path.relative_to(store))
        for path in (str(inner), "link-inside", version, str(root / version)):
            assert (await load(path)).status_code == 200
        assert (await load("absent")).status_code == 404

    run(registry, work, model_dir=root)


def test_what_cannot_be_served_does_not_take_over(
    make_package: Callable[..., Package], registry: CollectorRegistry
) -> None:
    good, bad = make_package(0.01), make_package(0.02)
    other = make_package(0.03, name="other")
    model = bad.path / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")

    async def work(assembly: Assembly, client: httpx.AsyncClient) -> None:
        url = "/v2/repository/models/tiny/load"
        for body, status, message in (
            ({"path": str(bad.path)}, 422, "sha256 does not match"),
            ({"path": str(bad.path / "nowhere")}, 404, "no such package"),
            ({"path": str(other.path)}, 400, "holds model 'other', not 'tiny'"),
            ({"path": 3}, 400, "must be the folder"),
            ([], 400, "must be a JSON object"),
        ):
            answer = await client.post(url, json=body)
            assert answer.status_code == status
            assert message in answer.json()["error"]
        assert (await client.post(url, content=b"{")).status_code == 400
        unknown = await client.post("/v2/repository/models/else/load")
        assert unknown.status_code == 404
        assert await version(client) == good.contract.version

    run(registry, work, model_dir=good.path, repository_roots=(good.path.parent.parent,))


def test_the_repository_is_closed_unless_it_is_opened(
    make_handler: Callable[..., Any],
) -> None:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(make_handler())
        async with httpx.AsyncClient(transport=transport, base_url="http://p") as client:
            return await client.post("/v2/repository/models/tiny/unload")

    answer = asyncio.run(go())
    assert answer.status_code == 404
    assert "DAVY_PREDICTOR_REPOSITORY_API" in answer.json()["error"]


def test_a_changed_folder_is_loaded_and_a_damaged_one_is_not(
    make_package: Callable[..., Package], registry: CollectorRegistry, tmp_path: Path
) -> None:
    first, second = make_package(0.01), make_package(0.02)
    mount = tmp_path / "models"
    shutil.copytree(first.path, mount)

    async def work(assembly: Assembly, client: httpx.AsyncClient) -> None:
        look = assembly.repository.look
        served = assembly.repository.models.find("tiny")
        await look()
        assert assembly.repository.models.find("tiny") is served
        # Half of a copy: neither the old package nor the new one.
        shutil.copyfile(second.path / "model.onnx", mount / "model.onnx")
        await look()
        assert await version(client) == first.contract.version
        shutil.copytree(second.path, mount, dirs_exist_ok=True)
        await look()
        assert await version(client) == second.contract.version
        assert len(assembly.repository.models.catalogue.entries) == 1

    run(registry, work, model_dir=mount)


def test_a_new_version_in_a_store_takes_over_and_gives_way_when_it_is_removed(
    make_package: Callable[..., Package], registry: CollectorRegistry, tmp_path: Path
) -> None:
    first = make_package(0.01, day=1)
    store = first.path.parent.parent

    async def work(assembly: Assembly, client: httpx.AsyncClient) -> None:
        second = make_package(0.02, day=2)
        await assembly.repository.look()
        assert await version(client) == second.contract.version
        shutil.rmtree(second.path)
        await assembly.repository.look()
        assert await version(client) == first.contract.version
        # The last one stays: nothing could answer for it.
        first.path.rename(tmp_path / "moved")
        await assembly.repository.look()
        assert await version(client) == first.contract.version

    run(registry, work, model_dir=store)


def test_looking_goes_on_by_itself(
    make_package: Callable[..., Package], registry: CollectorRegistry
) -> None:
    first = make_package(0.01, day=1)

    async def work(assembly: Assembly, client: httpx.AsyncClient) -> None:
        second = make_package(0.02, day=2)
        for _ in range(200):
            await asyncio.sleep(0.02)
            if await version(client) == second.contract.version:
                return
        raise AssertionError("it did not take over")

    run(registry, work, model_dir=first.path.parent.parent, reload_seconds=0.05)


def test_no_request_fails_over_reloads_and_the_old_model_is_given_back(
    make_package: Callable[..., Package],
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("davy.predictor.repository.LINGER_SECONDS", 0.01)
    packages = [make_package(0.01), make_package(0.02)]

    async def work(assembly: Assembly, client: httpx.AsyncClient) -> None:
        done = asyncio.Event()
        seen: dict[str, int] = {}

        async def ask() -> None:
            while not done.is_set():
                found = await version(client)
                seen[found] = seen.get(found, 0) + 1
                # Requests that never let go of the loop would hold up the loads for as long as
                # they like, and memory grows while the collector is off.
                await asyncio.sleep(0.002)

        askers = [asyncio.create_task(ask()) for _ in range(4)]
        old = weakref.ref(assembly.repository.models.find("tiny").plane.model.session)
        for turn in range(6):
            await asyncio.sleep(0.02)
            await assembly.repository.load("tiny", packages[(turn + 1) % 2].path)
        await asyncio.sleep(0.05)
        done.set()
        await asyncio.gather(*askers)
        assert set(seen) == {package.contract.version for package in packages}
        # Without the collector, which the server all but turns off.
        assert old() is None

    gc.disable()
    try:
        run(registry, work, model_dir=packages[0].path)
    finally:
        gc.enable()


def test_a_store_is_searched_two_levels_deep(tmp_path: Path) -> None:
    for name in ("a/1", "a/2", "b/1", "a/.writing-x", "c/d/e"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").write_text("{}")
    assert discover(tmp_path) == tuple(tmp_path / name for name in ("a/1", "a/2", "b/1"))
    assert discover(tmp_path / "a" / "1") == (tmp_path / "a" / "1",)
    assert discover(tmp_path / "nothing") == (tmp_path / "nothing",)


def test_a_fingerprint_changes_with_any_file(tmp_path: Path) -> None:
    assert fingerprint(tmp_path / "nothing") == ()
    real, link = tmp_path / "real", tmp_path / "link"
    (real / "sub").mkdir(parents=True)
    (real / "sub" / "file").write_text("1")
    link.symlink_to(real)
    before = fingerprint(link)
    (real / "sub" / "file").write_text("12")
    assert fingerprint(link) != before
    before = fingerprint(link)
    other = tmp_path / "other"
    shutil.copytree(real, other)
    link.unlink()
    link.symlink_to(other)
    assert fingerprint(link) != before


def test_one_damaged_package_of_several_is_an_error_at_the_start(
    make_package: Callable[..., Package], registry: CollectorRegistry
) -> None:
    good, bad = make_package(0.01), make_package(0.02)
    (bad.path / "card.md").write_text("other")

    async def go() -> DavyError:
        with pytest.raises(IntegrityError) as caught:
            assemble(
                PredictorSettings(models=(good.path, bad.path)),
                registry=registry,
                clock=SystemClock(),
            )
        return caught.value

    assert "card.md" in str(asyncio.run(go()))


def test_errors_of_the_repository_say_what_to_do(
    make_package: Callable[..., Package], registry: CollectorRegistry
) -> None:
    first = make_package(0.01)

    async def work(assembly: Assembly, client: httpx.AsyncClient) -> None:
        with pytest.raises(NotFoundError, match="Name its folder"):
            await assembly.repository.load("else")
        with pytest.raises(InvalidInputError):
            await assembly.repository.load("else", first.path)

    run(registry, work, model_dir=first.path)


def test_without_a_model_both_protocols_say_not_ready(
    make_package: Callable[..., Package], registry: CollectorRegistry
) -> None:
    first = make_package(0.01)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def work(assembly: Assembly, client: httpx.AsyncClient) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            ask = channel.unary_unary(
                f"/{SERVICE}/ServerReady",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=messages.ServerReadyResponse.FromString,
            )
            for change, ready in (("", True), ("unload", False), ("load", True)):
                if change:
                    answer = await client.post(f"/v2/repository/models/tiny/{change}")
                    assert answer.status_code == 200
                assert (await ask(messages.ServerReadyRequest())).ready is ready
                assert (await client.get("/v2/health/ready")).json() == {"ready": ready}

    run(registry, work, model_dir=first.path, grpc_port=port)
