from __future__ import annotations

import errno
import hashlib
import io
import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from davy.core.errors import (
    ConflictError,
    DavyError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from davy.packaging import manifest as manifests
from davy.packaging import package as packages
from davy.packaging.contract import Contract
from davy.packaging.manifest import canonical
from davy.packaging.package import Package, read_package, write_package

NAMES = [
    "card.html",
    "card.md",
    "contract.json",
    "evidence/task.yaml",
    "manifest.json",
    "model.onnx",
    "model.sig",
    "reference.parquet",
]


def test_a_written_package_reads_back_the_same(signed: Package, keys: tuple[Path, Path]) -> None:
    again = read_package(signed.path, public_key=keys[1])
    assert again.contract == signed.contract
    assert again.manifest == signed.manifest
    assert again.identity == signed.identity
    assert again.verified
    assert again.signed
    assert not signed.verified


def test_the_layout_is_store_name_version(signed: Package, tmp_path: Path) -> None:
    version = signed.contract.version
    assert signed.path == tmp_path / "store" / "next_basket" / version
    assert re.fullmatch(r"2026\.03\.04-[0-9a-f]{8}", version)
    assert version.endswith(signed.identity[:8])
    found = [p.relative_to(signed.path).as_posix() for p in signed.path.rglob("*") if p.is_file()]
    assert sorted(found) == NAMES


def test_the_manifest_holds_what_sha256sum_prints(signed: Package) -> None:
    assert sorted({*signed.manifest.files, "manifest.json", "model.sig"}) == NAMES
    for name, entry in signed.manifest.files.items():
        content = (signed.path / name).read_bytes()
        assert entry.sha256 == hashlib.sha256(content).hexdigest()
        assert entry.size == len(content)


def test_contract_and_card_print_the_version(signed: Package) -> None:
    for name in ("contract.json", "card.md", "card.html"):
        assert signed.contract.version in signed.content(name).decode()


def test_identity_depends_on_content_alone(
    tmp_path: Path, draft: Contract, files: dict[str, Path], signed: Package
) -> None:
    unsigned = write_package(tmp_path / "other", draft, files, private_key=None)
    assert unsigned.identity == signed.identity
    files["model.onnx"].write_bytes(b"\x08 another graph")
    changed = write_package(tmp_path / "other", draft, files, private_key=None)
    assert changed.identity != signed.identity
    assert changed.contract.version != signed.contract.version
    worse = draft.model_copy(update={"quantization": "fp32"})
    assert write_package(tmp_path / "other", worse, files, private_key=None).identity not in {
        changed.identity,
        signed.identity,
    }


def test_the_version_in_a_draft_is_not_read(
    tmp_path: Path, draft: Contract, files: dict[str, Path], signed: Package
) -> None:
    named = draft.model_copy(update={"version": "1999.01.01-00000000"})
    assert write_package(tmp_path / "x", named, files, private_key=None).identity == signed.identity
    fields = draft.model_dump(mode="json")
    del fields["version"]
    again = write_package(tmp_path / "y", fields, files, private_key=None)
    assert again.identity == signed.identity


def test_writing_the_same_again_returns_what_is_there(
    tmp_path: Path, draft: Contract, files: dict[str, Path], keys: tuple[Path, Path]
) -> None:
    first = write_package(tmp_path / "store", draft, files, private_key=keys[0])
    before = (first.path / "model.sig").read_bytes()
    second = write_package(tmp_path / "store", draft, files, private_key=keys[0])
    assert second == first
    assert (first.path / "model.sig").read_bytes() == before


def test_the_same_unsigned_package_is_not_signed_in_place(
    tmp_path: Path, draft: Contract, files: dict[str, Path], keys: tuple[Path, Path]
) -> None:
    write_package(tmp_path / "store", draft, files, private_key=None)
    with pytest.raises(ConflictError, match="without a signature"):
        write_package(tmp_path / "store", draft, files, private_key=keys[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", [0.0, 0.37, 0.5, 0.999])
def test_one_flipped_byte_is_found(
    signed: Package, keys: tuple[Path, Path], name: str, place: float
) -> None:
    path = signed.path / name
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError) as caught:
        read_package(signed.path, public_key=keys[1])
    # A hash that was changed in the manifest is told from a changed file by nothing.
    assert name == "manifest.json" or name in str(caught.value)


def test_a_changed_file_is_named_with_both_hashes(signed: Package) -> None:
    expected = signed.manifest.files["model.onnx"].sha256
    (signed.path / "model.onnx").write_bytes(b"other")
    with pytest.raises(IntegrityError) as caught:
        read_package(signed.path)
    message = str(caught.value)
    assert "model.onnx" in message
    assert expected in message
    assert hashlib.sha256(b"other").hexdigest() in message
    assert caught.value.exit_code == 77


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"manifest.json", "model.sig"}))
def test_a_missing_file_is_named(signed: Package, name: str) -> None:
    (signed.path / name).unlink()
    with pytest.raises(IntegrityError, match=rf"{re.escape(name)}: missing"):
        read_package(signed.path)


def test_a_file_that_the_manifest_does_not_list_is_an_error(signed: Package) -> None:
    (signed.path / "evidence" / "more.txt").write_text("x")
    with pytest.raises(IntegrityError, match=r"evidence/more\.txt: not listed"):
        read_package(signed.path)


def test_a_link_in_a_package_is_an_error(signed: Package, tmp_path: Path) -> None:
    copy = tmp_path / "model.onnx"
    (signed.path / "model.onnx").rename(copy)
    (signed.path / "model.onnx").symlink_to(copy)
    with pytest.raises(IntegrityError, match="not a plain file"):
        read_package(signed.path)


def test_there_is_no_such_package(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such package"):
        read_package(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="not a model package"):
        read_package(tmp_path)


def test_hashes_that_were_mended_do_not_mend_the_identity(signed: Package) -> None:
    model = signed.path / "model.onnx"
    model.write_bytes(b"a worse model")
    mended = json.loads((signed.path / "manifest.json").read_bytes())
    mended["files"]["model.onnx"] = {
        "sha256": hashlib.sha256(b"a worse model").hexdigest(),
        "size": 13,
    }
    (signed.path / "manifest.json").write_bytes(canonical(mended))
    with pytest.raises(IntegrityError, match=r"manifest\.json: identity does not match"):
        read_package(signed.path)


def test_another_package_under_the_old_signature_does_not_verify(
    tmp_path: Path,
    draft: Contract,
    files: dict[str, Path],
    signed: Package,
    keys: tuple[Path, Path],
) -> None:
    files["model.onnx"].write_bytes(b"a worse model")
    forged = write_package(tmp_path / "forged", draft, files, private_key=None)
    read_package(forged.path)
    with pytest.raises(IntegrityError, match="not signed"):
        read_package(forged.path, public_key=keys[1])
    shutil.copy(signed.path / "model.sig", forged.path)
    with pytest.raises(IntegrityError, match="signature does not hold"):
        read_package(forged.path, public_key=keys[1])


def test_a_contract_is_not_parsed_before_its_signature_is_checked(
    signed: Package, keys: tuple[Path, Path]
) -> None:
    path = signed.path / "contract.json"
    path.write_bytes(b"[" * 100_000)
    mended = json.loads((signed.path / "manifest.json").read_bytes())
    mended["files"]["contract.json"] = manifests.entry(path).model_dump()
    (signed.path / "manifest.json").write_bytes(canonical(mended))
    with pytest.raises(InvalidInputError, match=r"contract\.json: not JSON"):
        read_package(signed.path)
    with pytest.raises(IntegrityError, match="signature does not hold"):
        read_package(signed.path, public_key=keys[1])


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "contract.json"])
def test_a_file_that_cannot_be_read_is_named(
    signed: Package, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Modes do not stop the superuser, as which tests may run.
    opened = io.open

    def refuse(file: object, *args: Any, **kwargs: Any) -> Any:
        if str(file) == str(signed.path / name):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return opened(file, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(io, "open", refuse)
    with pytest.raises(IntegrityError, match=rf"{name}: cannot be read \(Permission denied\)"):
        read_package(signed.path)


def test_a_file_that_changes_after_verification_is_not_handed_out(signed: Package) -> None:
    assert signed.content("evidence/task.yaml") == b"name: next_basket\n"
    signed.files["evidence/task.yaml"].write_bytes(b"name: another\n")
    with pytest.raises(IntegrityError, match=r"task\.yaml"):
        signed.content("evidence/task.yaml")
    with pytest.raises(NotFoundError, match=r"no file 'other\.txt'"):
        signed.content("other.txt")


@pytest.mark.parametrize("victim", ["copyfile", "sign_folder", "_settle", "read_package"])
def test_a_crash_while_writing_leaves_nothing(
    tmp_path: Path,
    draft: Contract,
    files: dict[str, Path],
    keys: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    victim: str,
) -> None:
    def crash(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    place = packages.shutil if victim == "copyfile" else packages
    monkeypatch.setattr(place, victim, crash)
    store = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        write_package(store, draft, files, private_key=keys[0])
    assert [path for path in store.rglob("*") if path.is_file()] == []
    assert list((store / "next_basket").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("evidence/model.pkl", b"x", "no place in a package"),
        ("evidence/model.pt", b"x", "no place in a package"),
        ("evidence/table.csv", pickle.dumps({"a": 1}), "no place in a package"),
        ("../outside.json", b"{}", "not a plain relative path"),
        ("/outside.json", b"{}", "not a plain relative path"),
        ("a//b.json", b"{}", "not a plain relative path"),
        ("contract.json", b"{}", "made by packaging itself"),
        ("model.sig", b"{}", "made by packaging itself"),
    ],
)
def test_what_has_no_place_in_a_package(
    tmp_path: Path,
    draft: Contract,
    files: dict[str, Path],
    name: str,
    content: bytes,
    said: str,
) -> None:
    source = tmp_path / "source"
    source.write_bytes(content)
    with pytest.raises(InvalidInputError, match=said):
        write_package(tmp_path / "store", draft, {**files, name: source}, private_key=None)
    assert not (tmp_path / "store").exists()


def test_model_and_reference_are_required(
    tmp_path: Path, draft: Contract, files: dict[str, Path]
) -> None:
    for name in ("model.onnx", "reference.parquet"):
        some = {key: value for key, value in files.items() if key != name}
        with pytest.raises(InvalidInputError, match=f"'{name}' is missing"):
            write_package(tmp_path / "store", draft, some, private_key=None)
    with pytest.raises(NotFoundError, match=r"no such file \(for 'model.onnx'\)"):
        write_package(
            tmp_path / "store", draft, {**files, "model.onnx": tmp_path / "no"}, private_key=None
        )


def test_a_figure_that_is_not_a_number_is_refused(
    tmp_path: Path, draft: Contract, files: dict[str, Path]
) -> None:
    fields = draft.model_dump(mode="json")
    fields["metrics"][0]["overall"]["lower"] = float("nan")
    with pytest.raises(InvalidInputError, match=r"metrics\.0\.overall\.lower"):
        write_package(tmp_path / "store", fields, files, private_key=None)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", ".."])
def test_a_name_must_be_that_of_a_folder(
    tmp_path: Path, draft: Contract, files: dict[str, Path], name: str
) -> None:
    odd = draft.model_copy(update={"name": name})
    with pytest.raises(DavyError, match="cannot be a folder"):
        write_package(tmp_path / "store", odd, files, private_key=None)
