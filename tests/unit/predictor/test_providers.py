"""Options of execution providers: refused where they cannot be meant, and told where they are.

The runtime here has the CPU alone, so what a provider says is a stand-in's; what OpenVINO and CUDA
say of options that they have not is as their sources word it.
"""

from typing import Any, ClassVar

import onnxruntime
import pytest

from davy.core.errors import ConfigurationError, PermanentError
from davy.predictor.assembly import session_settings
from davy.predictor.providers import CPU_PROVIDER, wrong_options
from davy.predictor.session import Opened, SessionSettings, open_session
from davy.predictor.settings import PredictorSettings

DEVICE = "StandInExecutionProvider"
LISTED = (DEVICE, CPU_PROVIDER)


class StandInSession:
    """A session on a device, which has options as CUDA's provider has, and refuses others."""

    has: ClassVar = {"device_id": "0", "gpu_mem_limit": "18446744073709551615"}
    tells = True
    strict = True
    starts = True

    def __init__(
        self, model: bytes, options: Any, *, providers: list[Any], enable_fallback: int
    ) -> None:
        assert enable_fallback == 0
        if model == b"damaged":
            raise RuntimeError("cannot parse the model")
        named = [item if isinstance(item, tuple) else (item, {}) for item in providers]
        asked = dict(named)
        unknown = [name for name in asked[DEVICE] if name not in self.has]
        if unknown and self.strict:
            raise RuntimeError(f'Unknown provider option: "{unknown[0]}".')
        self.providers = list(asked) if self.starts else [CPU_PROVIDER]
        self.options = {**self.has, **asked[DEVICE]} if self.strict else self.has

    def get_providers(self) -> list[str]:
        return self.providers

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {DEVICE: self.options if self.tells else {}, CPU_PROVIDER: {}}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[StandInSession]:
    session = type("Session", (StandInSession,), {})
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*LISTED])
    return session


def open_it(options: dict[str, str], content: bytes = b"model") -> Opened:
    settings = SessionSettings(providers=LISTED, provider_options={DEVICE: options})
    return open_session(content, settings, where="model.onnx")


def told(opened: Opened) -> Any:
    return opened.describe().get("execution_provider_options")


def test_options_are_recorded_as_the_provider_has_them(device: Any) -> None:
    assert told(open_it({"device_id": "1"})) == f'{{"{DEVICE}": {{"device_id": "1"}}}}'
    device.tells = False
    assert told(open_it({"device_id": "1"})) == f'{{"{DEVICE}": {{"device_id": "1"}}}}'
    assert told(open_it({})) is None


def test_an_option_that_the_provider_refuses_names_those_that_it_has(device: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_it({"device": "1"})
    assert 'Unknown provider option: "device"' in str(caught.value)
    assert f"{DEVICE} has device_id, gpu_mem_limit" in str(caught.value)
    assert "DAVY_PREDICTOR_PROVIDER_OPTIONS" in str(caught.value)


def test_an_option_that_the_provider_passes_over_is_refused_here(device: Any) -> None:
    device.strict = False
    with pytest.raises(ConfigurationError, match="has no option 'device'"):
        open_it({"device": "1"})


def test_a_provider_that_tells_no_options_is_left_to_its_own_checks(device: Any) -> None:
    device.tells = False
    with pytest.raises(ConfigurationError, match="Unknown provider option"):
        open_it({"device": "1"})
    device.strict = False
    open_it({"device": "1"})


def test_a_provider_that_does_not_start_may_have_wrong_options(device: Any) -> None:
    device.starts = False
    with pytest.raises(ConfigurationError, match=r"did not start .* its options are right"):
        open_it({"device_id": "x"})
    with pytest.raises(ConfigurationError, match="its device are there, or leave it out"):
        open_it({})


@pytest.mark.usefixtures("device")
def test_a_damaged_model_is_not_blamed_on_the_options() -> None:
    with pytest.raises(PermanentError, match="cannot parse the model") as caught:
        open_it({"device_id": "1"}, b"damaged")
    assert not isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"CUDAExecutionProvider": {"device_id": 0}}, "is none of 'providers', which are CPU"),
        ({CPU_PROVIDER: {"arena": 1}}, "takes no options"),
        ({CPU_PROVIDER: {}}, ""),
        ({}, ""),
    ],
)
def test_options_of_what_is_not_asked_for(options: dict[str, Any], wrong: str) -> None:
    assert wrong in wrong_options([CPU_PROVIDER], options)
    assert bool(wrong) == bool(wrong_options([CPU_PROVIDER], options))


def test_settings_reach_the_session_as_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAVY_PREDICTOR_PROVIDERS", f'["{DEVICE}"]')
    monkeypatch.setenv(
        "DAVY_PREDICTOR_PROVIDER_OPTIONS",
        f'{{"{DEVICE}": {{"device_id": 0, "tf32": true, "arena": "kSameAsRequested"}}}}',
    )
    settings = session_settings(PredictorSettings.load())
    texts = {"device_id": "0", "tf32": "True", "arena": "kSameAsRequested"}
    assert settings.provider_options == {DEVICE: texts}


@pytest.mark.parametrize("options", ['{"CPUExecutionProvider": {"x": 1}}', '{"X": {"a": 1}}', "[]"])
def test_settings_that_cannot_be_meant_are_refused(
    monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    monkeypatch.setenv("DAVY_PREDICTOR_PROVIDER_OPTIONS", options)
    with pytest.raises(ConfigurationError, match=r"(?i)provider_options"):
        PredictorSettings.load()
