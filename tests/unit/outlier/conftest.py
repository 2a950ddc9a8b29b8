from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

_spec = importlib.util.spec_from_file_location(
    "mixed_rows", Path(__file__).with_name("mixed_rows.py")
)
assert _spec is not None
assert _spec.loader is not None
_mixed = importlib.util.module_from_spec(_spec)
sys.modules["mixed_rows"] = _mixed
_spec.loader.exec_module(_mixed)


@pytest.fixture(scope="session")
def mixed() -> ModuleType:
    """Rows of mixed features, and their faults."""
    return _mixed
