from pathlib import Path
from typing import ClassVar

import pytest
from pydantic_settings import SettingsConfigDict

from davy.core.errors import ConfigurationError
from davy.core.settings import DavySettings


class SampleSettings(DavySettings):
    section: ClassVar[str] = "sample"
    model_config = SettingsConfigDict(env_prefix="DAVY_SAMPLE_", extra="forbid", frozen=True)

    threads: int = 1
    name: str = "a"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "davy.toml"
    monkeypatch.setenv("DAVY_CONFIG", str(path))
    return path


def test_argument_over_environment_over_file(config: Path, monkeypatch: pytest.MonkeyPatch):
    config.write_text('[sample]\nthreads = 2\nname = "file"\n')
    assert SampleSettings.load().threads == 2
    monkeypatch.setenv("DAVY_SAMPLE_THREADS", "3")
    assert SampleSettings.load() == SampleSettings(threads=3, name="file")
    assert SampleSettings.load(threads=4).threads == 4


def test_wrong_value_names_the_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAVY_SAMPLE_THREADS", "many")
    with pytest.raises(ConfigurationError, match="DAVY_SAMPLE_THREADS"):
        SampleSettings.load()


def test_misspelt_variable_names_its_nearest_match(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAVY_SAMPLE_TREADS", "2")
    with pytest.raises(ConfigurationError, match="did you mean 'threads'"):
        SampleSettings.load()


def test_misspelt_key_of_the_file(config: Path):
    config.write_text("[sample]\nthread = 2\n")
    with pytest.raises(ConfigurationError, match=r"thread\b.*did you mean 'threads'"):
        SampleSettings.load()


@pytest.mark.parametrize("content", ["not toml", "sample = 1"])
def test_broken_file(config: Path, content: str):
    config.write_text(content)
    with pytest.raises(ConfigurationError, match=r"davy\.toml"):
        SampleSettings.load()


def test_file_that_is_not_there(config: Path):
    with pytest.raises(ConfigurationError, match="no such file"):
        SampleSettings.load()
