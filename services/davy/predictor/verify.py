"""What can be verified before a process that serves is started.

Belongs here: the package's integrity, settings that must fit its contract, a free port.
Not here: executing the model.

Kept light: the process that supervises the serving one runs this and stays in memory.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Collection

from davy.core.errors import ConfigurationError, ConflictError
from davy.packaging.contract import Contract
from davy.packaging.package import Package, read_package
from davy.predictor.providers import CPU_PROVIDER, check_providers
from davy.predictor.segments import SegmentReader, Segments
from davy.predictor.settings import PredictorSettings
from davy.predictor.sources import all_packages


def check(settings: PredictorSettings) -> tuple[Package, ...]:
    """Verify the packages, and that the settings fit them.

    Raises
    ------
    NotFoundError, IntegrityError, InvalidInputError, ConfigurationError
        The package cannot be served, or the settings do not fit it.
    ConflictError
        The port for gRPC is taken.
    """
    if set(settings.providers) != {CPU_PROVIDER}:
        check_providers(settings.providers, available_providers())
    if settings.grpc_port is not None:
        check_port(settings.grpc_host, settings.grpc_port)
    if settings.grpc_tls is not None:
        settings.grpc_tls.check()
    packages = tuple(
        read_package(path, public_key=settings.public_key)
        for path in all_packages(settings.folders)
    )
    for package in packages:
        check_columns(settings.pseudonymise, package.contract)
        SegmentReader(Segments.of(settings.segments), package.contract)
    return packages


def available_providers() -> list[str]:
    """Return the runtime's execution providers, asked for in a process that ends with that.

    Raises
    ------
    ConfigurationError
        The runtime cannot be imported.
    """
    question = "import onnxruntime; print(*onnxruntime.get_available_providers())"
    told = subprocess.run(
        [sys.executable, "-c", question], capture_output=True, text=True, check=False
    )
    if told.returncode:
        *_, last = told.stderr.strip().splitlines() or ["it told nothing"]
        raise ConfigurationError(
            f"the runtime cannot be imported: {last}", where="DAVY_PREDICTOR_PROVIDERS"
        )
    return told.stdout.split()


def check_port(host: str, port: int) -> None:
    """Try to listen on a port.

    The processes that serve share theirs with SO_REUSEPORT, and would share it with those of
    another server too, each client finding one or the other.

    Raises
    ------
    ConflictError
        Somebody else does, or the address is not this machine's.
    """
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # Not in the way: what is left of connections that an earlier server had.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConflictError(
                f"cannot be listened on: {error.strerror or error}",
                where=f"{host} port {port}",
                fix="Set DAVY_PREDICTOR_GRPC_PORT to a free port",
            ) from None


def check_columns(columns: Collection[str], contract: Contract) -> None:
    """Hold the configured columns against a contract.

    Raises
    ------
    ConfigurationError
        A column is not a tensor of the model, or not of datatype BYTES.
    """
    datatypes = {spec.name: spec.datatype for spec in (*contract.inputs, *contract.outputs)}
    for column in sorted(columns):
        if datatypes.get(column) != "BYTES":
            found = datatypes.get(column, "no tensor of the model")
            raise ConfigurationError(
                f"'{column}' is {found}; only BYTES can be pseudonymised",
                where="DAVY_PREDICTOR_PSEUDONYMISE",
                fix="Name tensors of datatype BYTES of the model's contract",
            )
