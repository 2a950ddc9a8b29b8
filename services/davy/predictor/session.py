"""The runtime's session: its settings, chosen once and recorded.

Belongs here: threads, memory, graph optimisation and its cache on disk.
Not here: execution providers (`davy.predictor.providers`), which package is opened and what it is
fed (`davy.predictor.model`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from davy.core.errors import ConfigurationError, PermanentError
from davy.predictor.providers import (
    CPU_PROVIDER,
    ProviderOptions,
    blame,
    check_providers,
    describe,
    held,
    with_options,
)

Optimisation = Literal["none", "basic", "extended", "all"]
Cached = Literal["off", "written", "used"]
PROCESSOR = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How a model is executed.

    Attributes
    ----------
    threads : int
        Threads of one execution.
    arena : bool
        The runtime keeps freed memory for the next execution.
    optimisation : str
        How far the graph is rewritten before it is executed.
    providers : tuple of str
        Execution providers, the preferred one first.
    provider_options : mapping
        Options of some of them, by provider and name.
    cache_dir : Path, optional
        Where optimised graphs are kept; a folder of this user's that nobody else may write.
    """

    threads: int = 1
    arena: bool = True
    optimisation: Optimisation = "all"
    providers: tuple[str, ...] = (CPU_PROVIDER,)
    provider_options: ProviderOptions = field(default_factory=dict)
    cache_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A session, and what came of the cache."""

    session: Any
    settings: SessionSettings
    cached: Cached

    def describe(self) -> dict[str, Any]:
        """Return what the log and the model's metadata say of the session."""
        return {
            "execution_providers": ",".join(self.session.get_providers()),
            **describe(self.session, self.settings.provider_options),
            "threads": self.settings.threads,
            "arena": self.settings.arena,
            "graph_optimisation": self.settings.optimisation,
            "graph_cache": self.cached,
        }


def open_session(content: bytes, settings: SessionSettings, *, where: str) -> Opened:
    """Open a model.

    Parameters
    ----------
    content : bytes
        The verified ``model.onnx``.
    settings : SessionSettings
        How to execute it.
    where : str
        The model's file, for errors.

    Raises
    ------
    ConfigurationError
        A provider is not available or refuses its options, or the cache folder is not this user's
        alone.
    PermanentError
        The runtime cannot open the model.
    """
    import onnxruntime

    check_providers(settings.providers, onnxruntime.get_available_providers())

    def session_of(model: bytes, options: Any, *, chosen: ProviderOptions) -> Any:
        providers = with_options(settings.providers, chosen)
        # Without a fallback: that would be the CPU, silently, now or in the middle of serving.
        return onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)

    chosen = settings.provider_options
    options = _options(onnxruntime, settings)
    cached: Cached = "off"
    kept = None
    if settings.cache_dir is not None and settings.optimisation != "none":
        kept = _own(settings.cache_dir) / f"{_key(content, settings, onnxruntime)}.onnx"
    if kept is not None and kept.is_file():
        # Rewritten already; the runtime would only look through it again.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        with contextlib.suppress(Exception):
            opened = session_of(kept.read_bytes(), options, chosen=chosen)
            return Opened(held(opened, settings.providers, chosen), settings, "used")
        # Damaged: the model itself is opened, and the cache written again.
        options = _options(onnxruntime, settings)
    written = None
    if kept is not None:
        handle, written = tempfile.mkstemp(dir=kept.parent, prefix=".writing-", suffix=".onnx")
        os.close(handle)
        options.optimized_model_filepath = written
    try:
        session = session_of(content, options, chosen=chosen)
    except Exception as error:
        if written is not None:
            Path(written).unlink(missing_ok=True)
        plain = _options(onnxruntime, settings)
        blamed = blame(error, chosen, lambda: session_of(content, plain, chosen={}))
        if blamed is not None:
            raise blamed from error
        raise PermanentError(f"the runtime cannot open it: {error}", where=where) from error
    if kept is not None and written is not None:
        Path(written).replace(kept)
        cached = "written"
    return Opened(held(session, settings.providers, chosen), settings, cached)


def _options(onnxruntime: Any, settings: SessionSettings) -> Any:
    levels = {
        "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
        "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = settings.arena
    options.graph_optimization_level = levels[settings.optimisation]
    # Threads that spin while they wait take the CPU share of the server beside them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The server logs failures itself, once and with the request id.
    options.log_severity_level = 4
    return options


def _own(folder: Path) -> Path:
    """Return the cache folder; what lies in it is executed, so nobody else may write there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise ConfigurationError(
            f"cannot be used ({error.strerror})", where=f"cache_dir {folder}"
        ) from None
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationError(
            "others may write there", where=f"cache_dir {folder}", fix="Set its mode to 0700"
        )
    if not os.access(folder, os.W_OK):
        raise ConfigurationError("cannot be written", where=f"cache_dir {folder}")
    return folder


def _key(content: bytes, settings: SessionSettings, onnxruntime: Any) -> str:
    """Return what an optimised graph depends on: model, runtime, settings, processor."""
    flags = ""
    with contextlib.suppress(OSError):
        lines = PROCESSOR.read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    parts = (
        onnxruntime.__version__,
        settings.optimisation,
        str(with_options(settings.providers, settings.provider_options)),
        platform.machine(),
        flags,
    )
    digest = hashlib.sha256(content)
    digest.update("\0".join(parts).encode())
    return digest.hexdigest()
