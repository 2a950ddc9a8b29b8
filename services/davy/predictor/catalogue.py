"""Which packages are served, by name and version.

Belongs here: one immutable catalogue, how it changes, finding a model in it.
Not here: loading packages (`davy.predictor.repository`), inference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from davy.core.errors import NotFoundError
from davy.predictor.payload import Sink
from davy.predictor.plane import DataPlane


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One package as requests meet it: the model, who is told of its answers, its folder."""

    plane: DataPlane
    sink: Sink
    path: Path

    @property
    def name(self) -> str:
        """The model's name."""
        return self.plane.name

    @property
    def version(self) -> str:
        """The package's version: the arm."""
        return self.plane.version


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Packages in the order in which they were loaded.

    A name without a version means the one of that name which was loaded last.
    """

    entries: tuple[Served, ...]
    _found: dict[tuple[str, str | None], Served] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for entry in self.entries:
            self._found[entry.name, entry.version] = entry
            self._found[entry.name, None] = entry

    def find(self, name: str, version: str | None = None) -> Served:
        """Return the package that a caller names.

        Raises
        ------
        NotFoundError
            It is not served here.
        """
        found = self._found.get((name, version))
        if found is not None:
            return found
        if (name, None) not in self._found:
            here = ", ".join(f"'{known}'" for known in self.names()) or "no model"
            raise NotFoundError(
                "no such model", where=f"model '{name}'", fix=f"This server has {here}"
            )
        raise NotFoundError(
            "no such version",
            where=f"model '{name}' version '{version}'",
            fix=f"This server has {', '.join(self.versions(name))}",
        )

    def names(self) -> tuple[str, ...]:
        """Return the names of the models, each once."""
        return tuple(dict.fromkeys(entry.name for entry in self.entries))

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the versions of one model; the last is the default."""
        return tuple(entry.version for entry in self.entries if entry.name == name)

    def only(self) -> Served | None:
        """Return the package where there is exactly one."""
        return self.entries[0] if len(self.entries) == 1 else None

    def with_entry(self, entry: Served, instead: Iterable[Served] = ()) -> Catalogue:
        """Return the catalogue with one more package, the default of its name.

        Parameters
        ----------
        entry : Served
            The package; one of the same name and version is replaced.
        instead : iterable of Served
            Packages that are served no longer.
        """
        gone = [*instead, *(e for e in self.entries if _same(e, entry))]
        return Catalogue((*self.without(gone).entries, entry))

    def without(self, gone: Iterable[Served]) -> Catalogue:
        """Return the catalogue without some packages."""
        leaving = {id(entry) for entry in gone}
        return Catalogue(tuple(e for e in self.entries if id(e) not in leaving))


class Models:
    """What is served at this moment: a catalogue that is replaced as a whole.

    A request looks it up once, and is answered by what it found then, whatever is loaded since.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._told: list[Callable[[], None]] = []

    @property
    def catalogue(self) -> Catalogue:
        """What is served now; whoever asked `on_change` is told when it is replaced."""
        return self._catalogue

    @catalogue.setter
    def catalogue(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        for tell in self._told:
            tell()

    @property
    def any(self) -> bool:
        """Whether there is anything to be asked: without a model a server is not ready."""
        return bool(self._catalogue.entries)

    def on_change(self, tell: Callable[[], None]) -> None:
        """Call `tell` after each change."""
        self._told.append(tell)

    def find(self, name: str, version: str | None = None) -> Served:
        """Return the package that a caller names; see `Catalogue.find`."""
        return self.catalogue.find(name, version)


def _same(one: Served, other: Served) -> bool:
    return (one.name, one.version) == (other.name, other.version)
