"""Looks this machine up: distributions, settings, ports, keys, clock.

Belongs here: what is asked of the machine. Not here: what follows (`davy.cli.doctor.local`).
"""

from __future__ import annotations

import importlib
import os
import platform
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from davy.cli.doctor import local
from davy.cli.doctor.finding import Finding, fail
from davy.cli.doctor.local import KeyFact, PortFact
from davy.core.clock import Clock
from davy.core.errors import DavyError
from davy.core.settings import CONFIG_VARIABLE, DavySettings

DISTRIBUTION = "davylamp"
PARTS = {
    "predictor": "davy.predictor.settings:PredictorSettings",
    "detector": "davy.detector.settings:DetectorSettings",
    "operator": "davy.rollout.operator.settings:OperatorSettings",
}
# The predictor's is an option of 'bentoml serve', with this default.
PREDICTOR_PORT = ("127.0.0.1", 3000, "bentoml serve --port")


def look(clock: Clock, environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Return the findings of this machine."""
    found = list(_installed())
    loaded: dict[str, DavySettings | None] = {}
    for part, name in PARTS.items():
        finding, loaded[part] = _settings(part, name, environ)
        if finding is not None:
            found.append(finding)
    found += [local.port(fact) for fact in _ports(loaded)]
    found.append(local.clock(clock.now(), _newest()))
    found += local.keys(tuple(_keys(loaded)))
    engine = str(getattr(loaded["detector"], "engine", "alibi"))
    found.append(local.licence(engine, find_spec("alibi_detect") is not None))
    return found


def _installed() -> Iterator[Finding]:
    try:
        about = metadata.metadata(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        yield local.davy(None)
        return
    yield local.davy(about["Version"])
    yield local.python(platform.python_version(), about["Requires-Python"])
    names = [name for name in about.get_all("Provides-Extra") or () if name != "dev"]
    wanted = metadata.requires(DISTRIBUTION) or []
    yield from local.extras(["", *sorted(names)], wanted, _versions(wanted))


def _versions(requirements: list[str]) -> dict[str, str]:
    from packaging.requirements import Requirement

    found = {}
    for name in {Requirement(text).name for text in requirements}:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _settings(
    part: str, name: str, environ: Mapping[str, str]
) -> tuple[Finding | None, DavySettings | None]:
    """Load the settings of a part that has any; one without has nothing to be wrong."""
    module, _, attribute = name.partition(":")
    try:
        cls: type[DavySettings] = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        # The extra says what to install; a part that is not there has no settings either.
        return _unless_unused(part, environ, str(error)), None
    prefix = str(cls.model_config.get("env_prefix", "")).upper()
    if not any(key.startswith(prefix) for key in environ) and CONFIG_VARIABLE not in environ:
        return None, None
    try:
        return local.settings(part, ""), cls.load()
    except DavyError as error:
        return local.settings(part, str(error)), None


def _unless_unused(part: str, environ: Mapping[str, str], problem: str) -> Finding | None:
    if not any(key.startswith(f"DAVY_{part.upper()}_") for key in environ):
        return None
    return fail(f"settings {part}", problem, "Install the extra that lacks the library")


def _ports(loaded: Mapping[str, DavySettings | None]) -> Iterator[PortFact]:
    host, number, variable = PREDICTOR_PORT
    yield PortFact("predictor", host, number, variable, _occupied(host, number))
    for part, default in (("detector", 8090), ("operator", 8085)):
        host = str(getattr(loaded[part], "host", "127.0.0.1"))
        number = int(getattr(loaded[part], "port", default))
        if number:
            variable = f"DAVY_{part.upper()}_PORT"
            yield PortFact(part, host, number, variable, _occupied(host, number))


def _occupied(host: str, number: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return ""


def _newest() -> datetime:
    files = Path(__file__).parent.glob("*.py")
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in files), UTC)


def _keys(loaded: Mapping[str, DavySettings | None]) -> Iterator[KeyFact]:
    for part, found in loaded.items():
        path = getattr(found, "public_key", None)
        if isinstance(path, Path):
            yield key_fact(f"DAVY_{part.upper()}_PUBLIC_KEY", path)


def key_fact(setting: str, path: Path) -> KeyFact:
    """Read a key file as far as its kind."""
    from cryptography.hazmat.primitives import serialization

    try:
        text, mode = path.read_bytes(), path.stat().st_mode & 0o777
    except OSError:
        return KeyFact(setting, path, "missing")
    try:
        serialization.load_pem_public_key(text)
    except ValueError:
        kind = "private" if b"PRIVATE KEY" in text else "unreadable"
        return KeyFact(setting, path, kind, mode)
    return KeyFact(setting, path, "public", mode)
