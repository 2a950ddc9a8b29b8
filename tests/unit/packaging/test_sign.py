from __future__ import annotations

import stat
from pathlib import Path

import pytest

from davy.core.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError
from davy.packaging.package import Package, read_package
from davy.packaging.sign import generate_keys, sign_folder, verify_folder


def test_another_key_does_not_verify(signed: Package, tmp_path: Path) -> None:
    _, other = generate_keys(tmp_path / "other")
    with pytest.raises(IntegrityError, match="signature does not hold") as caught:
        read_package(signed.path, public_key=other)
    assert "model.sig" in str(caught.value)


def test_only_the_owner_can_read_a_private_key(tmp_path: Path) -> None:
    private, public = generate_keys(tmp_path / "keys")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert b"PUBLIC" in public.read_bytes()
    assert b"PRIVATE" in private.read_bytes()


def test_a_key_is_not_overwritten(tmp_path: Path) -> None:
    private, _ = generate_keys(tmp_path)
    before = private.read_bytes()
    with pytest.raises(ConflictError, match="a key is there already"):
        generate_keys(tmp_path)
    assert private.read_bytes() == before


def test_what_is_wrong_with_a_key(signed: Package, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nothing")
    with pytest.raises(NotFoundError, match="no such private key"):
        sign_folder(signed.path, tmp_path / "none.pem")
    with pytest.raises(NotFoundError, match="no such public key"):
        verify_folder(signed.path, tmp_path / "none.pem")
    for wrong in (public, nonsense):
        with pytest.raises(InvalidInputError, match="not a private key"):
            sign_folder(signed.path, wrong)
    for wrong in (private, nonsense):
        with pytest.raises(InvalidInputError, match="not a public key"):
            verify_folder(signed.path, wrong)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff\xfe", b'{"mediaType": "x"}'])
def test_nonsense_for_a_signature_is_refused(
    signed: Package, keys: tuple[Path, Path], content: bytes
) -> None:
    (signed.path / "model.sig").write_bytes(content)
    with pytest.raises(IntegrityError, match="signature does not hold"):
        verify_folder(signed.path, keys[1])


def test_the_signature_covers_files_that_git_would_hide(
    signed: Package, keys: tuple[Path, Path]
) -> None:
    (signed.path / ".gitignore").write_text("*")
    with pytest.raises(IntegrityError, match="gitignore"):
        verify_folder(signed.path, keys[1])


def test_the_library_itself_accepts_the_signature(signed: Package, keys: tuple[Path, Path]) -> None:
    from model_signing import verifying

    config = verifying.Config().use_elliptic_key_verifier(public_key=keys[1])
    config.verify(signed.path, signed.path / "model.sig")
