"""The file that tells a detector to send requests to a canary."""

from __future__ import annotations

from pathlib import Path

import pytest

from davy.core.errors import UnavailableError
from davy.protocol.shadow import read_targets
from davy.rollout.adapters.shadow_file import ShadowFile
from davy.rollout.series import Arms


def test_the_file_names_the_canary_and_forgets_it(tmp_path: Path) -> None:
    path = tmp_path / "shadow.json"
    mine = ShadowFile(path, {"v2": ["http://127.0.0.1:3001"]})
    other = ShadowFile(path, {"w2": ["http://127.0.0.1:3002"]})
    mine.begin(Arms("v1", "v2"))
    other.begin(Arms("w1", "w2"))
    mine.begin(Arms("v1", "v2"))
    assert {(t.stable, t.candidate, t.url) for t in read_targets(path).targets} == {
        ("w1", "w2", "http://127.0.0.1:3002"),
        ("v1", "v2", "http://127.0.0.1:3001"),
    }
    assert len(read_targets(path).targets) == 2
    mine.end(Arms("v1", "v2"))
    assert [target.candidate for target in read_targets(path).targets] == ["w2"]


def test_a_folder_that_cannot_be_written_is_said_again(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("a file, where a folder should be")
    with pytest.raises(UnavailableError, match="cannot be"):
        ShadowFile(tmp_path / "there" / "x.json", {"v2": ["http://a"]}).begin(Arms("v1", "v2"))
