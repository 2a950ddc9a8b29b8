"""Where packages lie: the folders to serve from, and whether what is in them changed.

Belongs here: finding packages in folders, which folders a client may name, fingerprints.
Not here: reading a package (`davy.packaging`), loading it (`davy.predictor.repository`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from davy.core.errors import InvalidInputError
from davy.packaging.manifest import MANIFEST

# A store is STORE/NAME/VERSION.
PATTERNS = (f"*/{MANIFEST}", f"*/*/{MANIFEST}")

Fingerprint = tuple[tuple[str, int, int, int], ...]


def discover(folder: Path) -> tuple[Path, ...]:
    """Return the packages of a folder: itself, or those one or two levels below it.

    A folder without any is returned as it is, for its reader to say what is wrong with it.
    """
    if (folder / MANIFEST).is_file():
        return (folder,)
    found = [
        manifest.parent
        for pattern in PATTERNS
        for manifest in folder.glob(pattern)
        # A dot is what writers put before the name of what is not whole yet.
        if not any(part.startswith(".") for part in manifest.relative_to(folder).parts)
    ]
    return tuple(sorted(found)) or (folder,)


def all_packages(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Return the packages of several folders, each once."""
    return tuple(dict.fromkeys(path for folder in folders for path in discover(folder)))


def allowed(asked: str, roots: Sequence[Path]) -> Path:
    """Return the folder that a client names, if it lies in one of the roots.

    Parameters
    ----------
    asked : str
        An absolute path, or one below any of the roots.
    roots : sequence of Path
        Folders that packages may be loaded from.

    Raises
    ------
    InvalidInputError
        It leads out of the roots, by ``..`` or by a link. Nothing of what lies there is told, not
        even whether anything does.
    """
    path = Path(asked)
    if ".." in path.parts:
        raise InvalidInputError("must not hold '..'", where="path")
    try:
        candidates = [path] if path.is_absolute() else [root / path for root in roots]
        inside = [folder for folder in candidates if _inside(folder, roots)]
        found = next((folder for folder in inside if folder.is_dir()), None)
    except (OSError, RuntimeError, ValueError) as error:
        # Too long a name, a circle of links.
        raise InvalidInputError(f"is no path: {error}", where="path") from None
    if not inside:
        raise InvalidInputError(
            "is outside the folders that packages may be loaded from",
            where="path",
            fix="DAVY_PREDICTOR_REPOSITORY_ROOTS is the list of those",
        )
    return found or inside[0]


def _inside(folder: Path, roots: Sequence[Path]) -> bool:
    real = folder.resolve()
    return any(real.is_relative_to(root.resolve()) for root in roots)


def fingerprint(folder: Path) -> Fingerprint:
    """Return what changes when a file of a package is written, replaced, added or removed.

    Size, time and number of each file, not its content: this is looked at every few seconds.
    Links are followed, because Kubernetes replaces mounted folders by moving one.
    """
    marks = []
    for path in sorted(folder.resolve().rglob("*")):
        try:
            status = path.stat()
        except OSError:
            # Gone between the two looks: the next look will differ.
            continue
        if path.is_file():
            marks.append((str(path), status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(marks)
