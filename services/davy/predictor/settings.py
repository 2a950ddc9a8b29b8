"""Settings of the predictor: ``DAVY_PREDICTOR_*``.

Belongs here: names, defaults, descriptions, and rules between settings. Not here: their use.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from davy.core.settings import DavySettings
from davy.predictor.grpc_tls import TlsFiles
from davy.predictor.providers import CPU_PROVIDER, wrong_options
from davy.predictor.segments import problem
from davy.predictor.session import Optimisation

OutlierMode = Literal["auto", "off", "always"]


class PredictorSettings(DavySettings):
    """How a predictor finds its model, and what it tells about its traffic."""

    section: ClassVar[str] = "predictor"
    model_config = SettingsConfigDict(env_prefix="DAVY_PREDICTOR_", extra="forbid", frozen=True)

    model_dir: Path = Field(
        Path("/mnt/models"),
        description="Folder of the model package, or of several (STORE/NAME/VERSION); KServe puts "
        "it at the default.",
    )
    models: tuple[Path, ...] = Field(
        (),
        description="Folders of packages as a JSON list, instead of 'model_dir'. A request that "
        "names no version gets the newest package of its model.",
    )
    repository_api: bool = Field(
        False,
        description="Answer /v2/repository/index and /v2/repository/models/NAME/load and /unload. "
        "Whoever reaches the port then chooses what is served.",
    )
    repository_roots: tuple[Path, ...] = Field(
        (),
        description="Folders as a JSON list, below which a client of that API may name a package "
        "to load. Default: those of 'models', else 'model_dir'.",
    )
    reload_seconds: float = Field(
        0.0,
        ge=0,
        description="How often the folders are looked at for new and changed packages; 0: never.",
    )
    workers: int = Field(
        1,
        ge=1,
        description="Processes that serve, on one port for HTTP and one for gRPC; each holds the "
        "models. A pod is better scaled by replicas; this is for one with several cores. Not "
        "together with 'repository_api', which would change what one of them serves.",
    )
    arm: Literal["baseline"] | None = Field(
        None,
        description="baseline: this server is a fresh copy of the version that serves, beside a "
        "canary. Its metrics then say VERSION+baseline; answers and payload events say VERSION, "
        "since the model is the same.",
    )
    public_key: Path | None = Field(
        None,
        description="PEM file of the signer's public key. With it, an unsigned package or one "
        "signed by another is not served; without it only hashes are verified.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="Threads that execute one request. Default: the whole cores of the "
        "container's CPU limit divided among the workers, one where there is no limit.",
    )
    arena: bool = Field(True, description="The runtime keeps freed memory for the next execution.")
    graph_optimisation: Optimisation = Field(
        "all", description="How far the runtime rewrites the graph before it executes it."
    )
    cache_dir: Path | None = Field(
        None,
        description="Writable folder for optimised graphs, so that a large model opens faster the "
        "next time. What lies there is executed: it must be this user's alone (mode 0700).",
    )
    providers: tuple[str, ...] = Field(
        (CPU_PROVIDER,),
        min_length=1,
        description="ONNX Runtime execution providers as a JSON list, the preferred one first. "
        "One that is not available is an error, not a silent way back to the CPU.",
    )
    provider_options: dict[str, dict[str, str | int | float | bool]] = Field(
        {},
        description="Options of those providers, as JSON: "
        '{"CUDAExecutionProvider": {"device_id": 0, "gpu_mem_limit": 2147483648}}. One that the '
        "provider refuses is an error.",
    )
    batch_rows: int = Field(
        256,
        ge=1,
        description="Rows of waiting requests that are executed together at most; a larger "
        "request is executed alone.",
    )
    batch_wait_seconds: float = Field(
        0.02,
        gt=0,
        description="How long requests that are executed together may take, by estimate: what "
        "comes meanwhile waits that long. Nothing waits while nothing is executed.",
    )
    inline_seconds: float = Field(
        0.0005,
        ge=0,
        description="A request that is alone and takes no longer, by estimate, is executed in "
        "the event loop instead of the worker thread.",
    )
    queue_rows: int = Field(
        50_000, ge=1, description="Rows that wait at most; what comes then is answered 503."
    )
    max_wait_seconds: float = Field(
        1.0,
        gt=0,
        description="A request that would wait longer than this, by estimate, is answered 503 "
        "with Retry-After at once.",
    )
    max_body_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1,
        description="Largest request, HTTP or gRPC; a larger one is answered 413 or "
        "RESOURCE_EXHAUSTED.",
    )
    grpc_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of the Open Inference Protocol over gRPC, in the same process. Off "
        "when absent. KServe's usual one is 8081; its container port is named h2c.",
    )
    grpc_tls_cert: Path | None = Field(
        None,
        description="PEM file of the gRPC port's certificate and its chain; plain text without. A "
        "renewed one is used from the next connection on.",
    )
    grpc_tls_key: Path | None = Field(None, description="PEM file of its key, without a password.")
    grpc_tls_client_ca: Path | None = Field(
        None, description="PEM file of the authority that clients' certificates must be signed by."
    )
    grpc_host: str = Field(
        "0.0.0.0",  # noqa: S104 (a container's port is reached from outside of it)
        description="Address that gRPC listens on; IPv6 in brackets. The default is that of "
        "'bentoml serve' for HTTP.",
    )
    drain_seconds: float = Field(
        1.0,
        ge=0,
        le=300,
        description="After SIGTERM: how long requests are still answered, each with "
        "'connection: close', while readiness says no. Keep it above the time that a load "
        "balancer needs to notice.",
    )
    outliers: OutlierMode = Field(
        "auto",
        description="Whether rows are scored as outliers while they are answered. auto: where the "
        "package says that it costs less than the model does; always: wherever it has a scorer.",
    )
    segments: dict[str, tuple[str, ...]] = Field(
        {},
        description="Labels by which a rollout may split requests, scores, outliers and broken "
        'answers, each with its values, as JSON: {"country": ["de", "at"]}. A request\'s value '
        "is its parameter of that name, else that of the input of that name; one that is not "
        "listed is 'other'.",
    )
    explain_seconds: float = Field(
        1.0,
        gt=0,
        le=25,
        description="Time for one explanation where the client sends no 'davy-timeout-ms'.",
    )
    explain_warm: bool = Field(
        False,
        description="Read a package's reference in the background when it is loaded, not with its "
        "first explanation. It takes some 40 MB, whether anybody asks for explanations or not.",
    )
    explain_rows: int = Field(16, ge=1, description="Rows explained in one request at most.")
    explain_samples: int = Field(
        2000,
        ge=4,
        description="Orders of the features that one explanation samples at most, time allowing.",
    )
    payload_url: str | None = Field(
        None,
        description="Where payload events are posted (the detector). Off when absent.",
        pattern=r"^https?://",
    )
    payload_sample_rate: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of requests that are told, chosen by a hash of the request id.",
    )
    payload_queue: int = Field(
        1000, ge=1, description="Requests that wait to be told at most; more are dropped, counted."
    )
    payload_queue_bytes: int = Field(
        64 * 1024 * 1024, ge=1, description="Bytes of bodies that wait to be told at most."
    )
    payload_batch: int = Field(50, ge=1, description="Requests told in one post at most.")
    payload_batch_bytes: int = Field(
        4 * 1024 * 1024,
        ge=1,
        description="Bytes of bodies in one post at most, but for a single larger request. Keep "
        "it below two thirds of what the receiver takes.",
    )
    payload_interval_seconds: float = Field(
        0.25, gt=0, description="How long a batch that is not full waits for more."
    )
    payload_timeout_seconds: float = Field(
        2.0, gt=0, description="How long one post may take; its events are dropped after that."
    )
    payload_flush_seconds: float = Field(
        3.0, ge=0, description="At the end of the process: how long waiting events are still told."
    )
    service_name: str = Field(
        "", description="Name of the InferenceService in payload events. Default: the model's."
    )
    service_namespace: str = Field("default", description="Its namespace in payload events.")
    pseudonymise: frozenset[str] = Field(
        frozenset(),
        description="Tensors of datatype BYTES, as a JSON list of names, whose values leave the "
        "process only as HMAC-SHA256 under the key below.",
    )
    pseudonymise_key: SecretStr | None = Field(
        None, description="Key of that HMAC; 16 characters at least. Required with 'pseudonymise'."
    )

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where packages lie."""
        return self.models or (self.model_dir,)

    @property
    def roots(self) -> tuple[Path, ...]:
        """Where packages that a client names must lie."""
        return self.repository_roots or self.folders

    @field_validator("segments")
    @classmethod
    def _bounded(cls, listed: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        wrong = problem(listed)
        if wrong:
            raise ValueError(wrong)
        return listed

    @model_validator(mode="after")
    def _options_of_providers(self) -> PredictorSettings:
        wrong = wrong_options(self.providers, self.provider_options)
        if wrong:
            raise ValueError(f"'provider_options': {wrong}")
        return self

    @model_validator(mode="after")
    def _one_worker_is_changed(self) -> PredictorSettings:
        if self.repository_api and self.workers > 1:
            raise ValueError("'repository_api' needs 'workers' to be 1")
        return self

    @property
    def grpc_tls(self) -> TlsFiles | None:
        """The gRPC port's certificate."""
        if self.grpc_tls_cert is None or self.grpc_tls_key is None:
            return None
        return TlsFiles(self.grpc_tls_cert, self.grpc_tls_key, self.grpc_tls_client_ca)

    @model_validator(mode="after")
    def _certificate_is_whole(self) -> PredictorSettings:
        if (self.grpc_tls_cert is None) != (self.grpc_tls_key is None):
            raise ValueError("'grpc_tls_cert' and 'grpc_tls_key' are needed together")
        if self.grpc_tls_client_ca is not None and self.grpc_tls_cert is None:
            raise ValueError("'grpc_tls_client_ca' needs 'grpc_tls_cert' and 'grpc_tls_key'")
        return self

    @model_validator(mode="after")
    def _key_for_columns(self) -> PredictorSettings:
        key = self.pseudonymise_key.get_secret_value() if self.pseudonymise_key else ""
        if self.pseudonymise and len(key) < 16:
            raise ValueError("'pseudonymise' needs a 'pseudonymise_key' of 16 characters or more")
        return self
