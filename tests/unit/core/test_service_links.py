"""What Kubernetes says of Services is told from settings by name and value together."""

from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_settings import SettingsConfigDict

from davy.core.errors import ConfigurationError
from davy.core.service_links import service_links
from davy.core.settings import DavySettings


class DetectorLikeSettings(DavySettings):
    section: ClassVar[str] = "detector"
    model_config = SettingsConfigDict(env_prefix="DAVY_DETECTOR_", extra="forbid", frozen=True)

    port: int = 8080
    grpc_port: int = 8081


def links(service: str, host: str, ports: dict[str, int], protocol: str = "tcp") -> dict[str, str]:
    """What the kubelet sets for a Service (pkg/kubelet/envvars of Kubernetes, in its own order)."""
    name = service.upper().replace("-", "_")
    first = next(iter(ports.values()))
    shown = f"[{host}]" if ":" in host else host
    found = {f"{name}_SERVICE_HOST": host, f"{name}_SERVICE_PORT": str(first)}
    for port_name, port in ports.items():
        if port_name:
            found[f"{name}_SERVICE_PORT_{port_name.upper().replace('-', '_')}"] = str(port)
    found[f"{name}_PORT"] = f"{protocol}://{shown}:{first}"
    for port in ports.values():
        prefix = f"{name}_PORT_{port}_{protocol.upper()}"
        found[prefix] = f"{protocol}://{shown}:{port}"
        found[f"{prefix}_PROTO"] = protocol
        found[f"{prefix}_PORT"] = str(port)
        found[f"{prefix}_ADDR"] = host
    return found


CASES = [
    ("davy-detector", "10.96.0.7", {"http": 80, "grpc-web": 8081}, "tcp"),
    ("davy-detector", "fd00::7", {"": 443}, "tcp"),
    # The name of this one begins with that of the part, and ends like one of its settings.
    ("davy-detector-grpc", "10.96.0.8", {"": 53}, "udp"),
    ("davy-detector-v2", "10.96.0.9", {"": 53}, "sctp"),
]


@pytest.mark.parametrize(("service", "host", "ports", "protocol"), CASES)
def test_every_variable_of_a_service_is_recognised(service, host, ports, protocol) -> None:
    told = links(service, host, ports, protocol)
    assert service_links({**told, "PATH": "/bin", "DAVY_DETECTOR_ENGINE": "native"}) == set(told)


@pytest.mark.parametrize(("service", "host", "ports", "protocol"), CASES)
def test_they_neither_stop_a_start_nor_become_values(
    service, host, ports, protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in links(service, host, ports, protocol).items():
        monkeypatch.setenv(name, value)
    assert DetectorLikeSettings.load() == DetectorLikeSettings(port=8080, grpc_port=8081)


def test_a_value_set_by_hand_beats_the_link_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    # As the kubelet does: the container's own variables replace those of Services.
    told = {**links("davy-detector", "10.96.0.7", {"http": 80}), "DAVY_DETECTOR_PORT": "9000"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert DetectorLikeSettings.load().port == 9000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # Misspelt, and shaped like a link's name or value, but not both.
        ("DAVY_DETECTOR_PROT", "tcp://10.96.0.7:80"),
        ("DAVY_DETECTOR_SERVICE_NAME", "shop"),
        ("DAVY_DETECTOR_SERVICE_PORT_HTTP", "eighty"),
        ("DAVY_DETECTOR_PORT_80_TCP", "tcp://10.96.0.99:80"),
        ("DAVY_DETECTOR_PORT_80_TCP_ADDR", "10.96.0.99"),
        ("DAVY_DETECTOR_PORT_80_TCP_PROTO", "http"),
        ("DAVY_DETECTOR_HTTP_PORT", "8080"),
        ("DAVY_DETECTOR_GRPC_PORTS", "8081"),
    ],
)
def test_misspelt_settings_beside_a_service_are_still_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for link, told in links("davy-detector", "10.96.0.7", {"http": 80}).items():
        monkeypatch.setenv(link, told)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        DetectorLikeSettings.load()


def test_a_port_that_is_an_address_is_refused_where_no_service_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DAVY_DETECTOR_PORT", "tcp://10.96.0.7:80")
    with pytest.raises(ConfigurationError, match="DAVY_DETECTOR_PORT"):
        DetectorLikeSettings.load()


@given(
    st.dictionaries(
        st.from_regex(r"DAVY_[A-Z_]{1,20}", fullmatch=True),
        st.sampled_from(["80", "tcp://10.0.0.1:80", "10.0.0.1", "tcp", "x"]),
        max_size=8,
    )
)
def test_nothing_is_a_link_without_an_address_and_a_port(environment: dict[str, str]) -> None:
    found = service_links(environment)
    assert found <= set(environment)
    if found:
        assert any(
            f"{name.removesuffix('_SERVICE_HOST')}_SERVICE_PORT" in found
            for name in found
            if name.endswith("_SERVICE_HOST")
        )
