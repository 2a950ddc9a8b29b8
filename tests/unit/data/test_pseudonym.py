"""Pseudonyms and where their key comes from."""

import doctest
import hashlib
import hmac
import stat

import pytest

from davy.core.errors import InvalidInputError
from davy.data import pseudonym as module
from davy.data.pseudonym import find_key, pseudonym


def test_a_pseudonym_is_the_start_of_the_keyed_hash():
    whole = hmac.new(b"key", b"900", hashlib.sha256).hexdigest()
    assert pseudonym("900", b"key") == whole[:16]
    assert pseudonym("900", b"other") != whole[:16]


def test_the_example_in_the_docstring():
    assert doctest.testmod(module) == (0, 1)


def test_the_setting_wins_and_leaves_no_file(tmp_path):
    assert find_key("sixteen characters", tmp_path) == b"sixteen characters"
    assert list(tmp_path.iterdir()) == []


def test_a_key_file_is_made_once_for_its_owner_alone(tmp_path):
    folder = tmp_path / "run"
    first = find_key(None, folder)
    assert find_key(None, folder) == first
    assert len(first) == 64
    [path] = folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_folders_have_two_keys(tmp_path):
    assert find_key(None, tmp_path / "a") != find_key(None, tmp_path / "b")


def test_an_empty_key_file_is_an_error(tmp_path):
    (tmp_path / "pseudonym.key").write_text("\n")
    with pytest.raises(InvalidInputError, match="holds no key"):
        find_key(None, tmp_path)
