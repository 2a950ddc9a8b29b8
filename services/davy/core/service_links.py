"""Variables by which Kubernetes tells a container of the Services beside it.

Belongs here: telling them from settings. Not here: the settings (`davy.core.settings`).

A Service named ``davy-predictor`` puts ``DAVY_PREDICTOR_SERVICE_HOST``, ``DAVY_PREDICTOR_PORT``
and more into every container of its namespace, unless the pod says ``enableServiceLinks: false``:
names with the prefix of a part's settings, and ``DAVY_DETECTOR_PORT`` even with the name of one.

https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

_HOST = "_SERVICE_HOST"
_NUMBER = re.compile(r"[1-9][0-9]{0,4}")
_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://(?P<host>\[[0-9a-fA-F:]+\]|[0-9.]+):(?P<port>[0-9]+)")
_PROTOCOL = re.compile(r"tcp|udp|sctp")
# What follows a Service's name -> what its value must look like.
_SHAPES = (
    (re.compile(r"_SERVICE_PORT(?:_[A-Z0-9_]+)?"), _NUMBER),
    (re.compile(r"_PORT(?:_[0-9]+_(?:TCP|UDP|SCTP))?"), _ADDRESS),
    (re.compile(r"_PORT_[0-9]+_(?:TCP|UDP|SCTP)_PROTO"), _PROTOCOL),
    (re.compile(r"_PORT_[0-9]+_(?:TCP|UDP|SCTP)_PORT"), _NUMBER),
)
_LINK_ADDRESS = re.compile(r"_PORT_[0-9]+_(?:TCP|UDP|SCTP)_ADDR")


def service_links(environment: Mapping[str, str]) -> frozenset[str]:
    """Return the names of the variables that Kubernetes made from Services.

    A Service is recognised by its address and its first port, which Kubernetes always sets
    together; what bears its name is a link only where name and value both have the shape of one.
    A setting that somebody misspelt, or set by hand, is none.

    Parameters
    ----------
    environment : mapping of str to str
        A process's environment.

    Examples
    --------
    >>> sorted(
    ...     service_links(
    ...         {
    ...             "DAVY_DETECTOR_SERVICE_HOST": "10.0.0.7",
    ...             "DAVY_DETECTOR_SERVICE_PORT": "80",
    ...             "DAVY_DETECTOR_PORT": "tcp://10.0.0.7:80",
    ...             "DAVY_DETECTOR_PROT": "8080",
    ...         }
    ...     )
    ... )
    ['DAVY_DETECTOR_PORT', 'DAVY_DETECTOR_SERVICE_HOST', 'DAVY_DETECTOR_SERVICE_PORT']
    """
    services = {
        name.removesuffix(_HOST): value
        for name, value in environment.items()
        if name.endswith(_HOST)
        and _is_address(value)
        and _NUMBER.fullmatch(environment.get(f"{name.removesuffix(_HOST)}_SERVICE_PORT", ""))
    }
    return frozenset(
        variable for variable, value in environment.items() if _is_link(variable, value, services)
    )


def _is_link(variable: str, value: str, services: Mapping[str, str]) -> bool:
    return any(
        variable.startswith(name) and _fits(variable[len(name) :], value, host)
        for name, host in services.items()
    )


def _fits(rest: str, value: str, host: str) -> bool:
    if rest == _HOST or _LINK_ADDRESS.fullmatch(rest):
        return value == host
    for name, shape in _SHAPES:
        if name.fullmatch(rest):
            found = shape.fullmatch(value)
            if found is None:
                return False
            return shape is not _ADDRESS or found["host"].strip("[]") == host
    return False


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def without(environment: Mapping[str, str | None], names: Iterable[str]) -> dict[str, str | None]:
    """Return an environment without some variables, their names compared without case."""
    left_out = {name.casefold() for name in names}
    return {key: value for key, value in environment.items() if key.casefold() not in left_out}
