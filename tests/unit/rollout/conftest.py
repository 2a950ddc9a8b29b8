"""Makes the stand-in cluster of ``tests/fixtures`` importable by the tests of this folder."""

import importlib.util
import sys
from pathlib import Path

_PATH = Path(__file__).parents[2] / "fixtures" / "rollout_cluster.py"
_spec = importlib.util.spec_from_file_location("rollout_cluster", _PATH)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["rollout_cluster"] = _module
_spec.loader.exec_module(_module)
