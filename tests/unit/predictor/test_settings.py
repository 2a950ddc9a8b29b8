"""Rules between the predictor's settings."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from davy.predictor import assembly
from davy.predictor.settings import PredictorSettings


def test_what_one_worker_of_several_serves_is_not_changed() -> None:
    with pytest.raises(ValidationError, match="needs 'workers' to be 1"):
        PredictorSettings(workers=2, repository_api=True)
    assert PredictorSettings(workers=1, repository_api=True).repository_api


def test_workers_share_the_containers_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "cpu_limit", lambda: 4.0)
    assert assembly.session_settings(PredictorSettings()).threads == 4
    assert assembly.session_settings(PredictorSettings(workers=2)).threads == 2
    assert assembly.session_settings(PredictorSettings(workers=8)).threads == 1
    assert assembly.session_settings(PredictorSettings(workers=2, threads=3)).threads == 3
