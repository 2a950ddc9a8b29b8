from pathlib import Path

import pytest

from davy.core.errors import ConfigurationError
from davy.predictor.settings import PredictorSettings


def test_every_setting_is_described() -> None:
    for name, field in PredictorSettings.model_fields.items():
        assert field.description, name


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAVY_PREDICTOR_MODEL_DIR", "/models/a")
    monkeypatch.setenv("DAVY_PREDICTOR_PSEUDONYMISE", '["household"]')
    monkeypatch.setenv("DAVY_PREDICTOR_PSEUDONYMISE_KEY", "a key of sixteen")
    settings = PredictorSettings.load()
    assert settings.model_dir == Path("/models/a")
    assert settings.pseudonymise == {"household"}
    assert "sixteen" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("MODEL_DIRR", "/m", "did you mean 'model_dir'"),
        ("PAYLOAD_SAMPLE_RATE", "0", "greater than 0"),
        ("PAYLOAD_SAMPLE_RATE", "1.5", "less than or equal to 1"),
        ("PAYLOAD_URL", "detector:8080", "pattern"),
        ("THREADS", "0", "greater than or equal to 1"),
        ("PSEUDONYMISE", '["household"]', "needs a 'pseudonymise_key' of 16"),
    ],
)
def test_a_wrong_value_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"DAVY_PREDICTOR_{variable}", value)
    with pytest.raises(ConfigurationError) as caught:
        PredictorSettings.load()
    assert message in str(caught.value)
