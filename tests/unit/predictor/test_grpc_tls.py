"""The gRPC port behind a certificate, over real sockets."""

import asyncio
import shutil
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import ValidationError
from tests.cluster.bed.certificates import Authority

from davy.core.clock import SystemClock
from davy.core.errors import ConfigurationError
from davy.predictor.catalogue import Catalogue, Models
from davy.predictor.grpc_server import SERVICE, GrpcServer
from davy.predictor.grpc_tls import TlsFiles
from davy.predictor.settings import PredictorSettings
from davy.protocol import open_inference_pb2 as messages


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def folder(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.mkdir()
    return path


async def live(address: str, credentials: Any) -> bool:
    """Ask over a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = (
        grpc.aio.insecure_channel(address, options)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials, options)
    )
    async with channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ServerLive",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.ServerLiveResponse.FromString,
        )
        try:
            return bool((await call(messages.ServerLiveRequest(), timeout=5)).live)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            return False


def run(tls: TlsFiles, scenario: Callable[[str], Awaitable[None]]) -> None:
    async def go() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        server = GrpcServer(
            Models(Catalogue(())),
            clock=SystemClock(),
            address=address,
            max_message_bytes=1000,
            ready=lambda: True,
            tls=tls,
        )
        await server.start()
        try:
            await scenario(address)
        finally:
            await server.close()

    asyncio.run(go())


def trusting(authority: Authority, client: tuple[Path, Path] | None = None) -> Any:
    certificate, key = (path.read_bytes() for path in client) if client else (None, None)
    return grpc.ssl_channel_credentials(authority.certificate.read_bytes(), key, certificate)


def test_only_who_speaks_tls_and_trusts_the_authority_is_answered(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority(folder(tmp_path, "other"))

    async def scenario(address: str) -> None:
        assert await live(address, trusting(authority))
        assert not await live(address, trusting(other))
        assert not await live(address, None)

    run(TlsFiles(*authority.issue("server", "server")), scenario)


def test_clients_need_a_certificate_where_an_authority_is_named(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority(folder(tmp_path, "other"))

    async def scenario(address: str) -> None:
        assert await live(address, trusting(authority, authority.issue("client", "client")))
        assert not await live(address, trusting(authority, other.issue("client", "client")))
        assert not await live(address, trusting(authority))

    run(TlsFiles(*authority.issue("server", "server"), authority.certificate), scenario)


def test_a_renewed_certificate_is_used_and_half_of_one_is_not(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority(folder(tmp_path, "other"))
    files = TlsFiles(*authority.issue("server", "server"))
    certificate, key = other.issue("server", "server")

    async def scenario(address: str) -> None:
        assert await live(address, trusting(authority))
        shutil.copyfile(certificate, files.certificate)
        # The key is still the old one's.
        assert await live(address, trusting(authority))
        shutil.copyfile(key, files.key)
        assert await live(address, trusting(other))
        assert not await live(address, trusting(authority))

    run(files, scenario)


def test_files_that_do_not_fit_are_named(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("server", "server")
    _, other = authority.issue("other", "other")
    absent = tmp_path / "absent.pem"
    for files, name in (
        (TlsFiles(certificate, other), "other.key"),
        (TlsFiles(absent, key), "absent.pem"),
        (TlsFiles(certificate, certificate), "server.crt"),
        (TlsFiles(certificate, key, absent), "absent.pem"),
        (TlsFiles(certificate, key, key), "server.key"),
    ):
        with pytest.raises(ConfigurationError, match=name):
            files.check()


def test_settings_name_a_whole_certificate(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    assert PredictorSettings().grpc_tls is None
    found = PredictorSettings(grpc_tls_cert=one, grpc_tls_key=other).grpc_tls
    assert found == TlsFiles(one, other)
    for halves in ({"grpc_tls_cert": one}, {"grpc_tls_key": one}, {"grpc_tls_client_ca": one}):
        with pytest.raises(ValidationError, match="grpc_tls"):
            PredictorSettings(**halves)
