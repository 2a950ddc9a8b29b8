"""Signatures over a whole package folder, in the OpenSSF model-signing format.

Belongs here: making a key pair, signing, verifying. Not here: the manifest's hashes.

Keys are NIST P-256 in PEM files. The signature names every file with its hash, so it stands on
its own: ``model_signing verify key PACKAGE --signature PACKAGE/model.sig`` accepts it too.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

from davy.core.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError
from davy.packaging.manifest import SIGNATURE

PRIVATE_NAME = "davy-signing.key"
PUBLIC_NAME = "davy-signing.pub"


def generate_keys(folder: Path) -> tuple[Path, Path]:
    """Write a new key pair and return the paths of the private and the public key.

    Raises
    ------
    ConflictError
        The folder holds a key already: it is not overwritten.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private, public = folder / PRIVATE_NAME, folder / PUBLIC_NAME
    for path in (private, public):
        if path.exists():
            raise ConflictError(
                "a key is there already", where=str(path), fix="Choose another folder or move it"
            )
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    # Created with its mode: there is no moment at which others can read it.
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


def sign_folder(folder: Path, private_key: Path) -> Path:
    """Sign every file under `folder` and return the path of the signature in it.

    Raises
    ------
    NotFoundError
        There is no such key.
    InvalidInputError
        The file is not an unencrypted PEM private key on a NIST curve.
    """
    from model_signing import hashing, signing

    _require(private_key, "private key")
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=private_key)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInputError(
            f"not a private key that can sign ({_line(error)})",
            where=str(private_key),
            fix="Make one with 'davy package keys DIR'",
        ) from None
    ignore = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    signature = folder / SIGNATURE
    config.set_hashing_config(ignore).sign(folder, signature)
    return signature


def verify_folder(folder: Path, public_key: Path) -> None:
    """Check that `folder` is what the owner of `public_key` signed.

    Raises
    ------
    NotFoundError
        There is no such key.
    InvalidInputError
        The key cannot be read.
    IntegrityError
        There is no signature, another key made it, or a file is not as it was signed.
    """
    from model_signing import hashing, verifying

    _require(public_key, "public key")
    signature = folder / SIGNATURE
    if not signature.is_file():
        raise IntegrityError(
            "not signed, but a public key is configured",
            where=str(folder),
            fix="Sign it when it is packaged (--key), or ask its maker for a signed one",
        )
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInputError(
            f"not a public key ({_line(error)})", where=str(public_key)
        ) from None
    # Set here and not guessed from the signature, so that the signature cannot exempt files.
    ignore = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            config.set_hashing_config(ignore).verify(folder, signature)
    # The library parses what an attacker may have written: whatever it trips over is a no.
    except Exception as error:
        raise IntegrityError(
            f"the signature does not hold ({_line(error)})",
            where=str(signature),
            fix="Do not use this package; check that the public key is its maker's",
        ) from None


def _require(path: Path, what: str) -> None:
    if not path.is_file():
        raise NotFoundError(
            f"no such {what}", where=str(path), fix="Make a pair with 'davy package keys DIR'"
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
