"""Loading, replacing and unloading packages while requests are answered.

Belongs here: the order of loading, verifying, taking over, letting go; looking for changes.
Not here: which package a request means (`davy.predictor.catalogue`), HTTP
(`davy.predictor.repository_api`).

A package is verified, opened and warmed in a thread before it takes over; when any of that fails,
what was served goes on being served. Requests that began on the old one end on it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from davy.core.errors import DavyError, InvalidInputError, NotFoundError
from davy.core.logging import get_logger
from davy.predictor.catalogue import Models, Served
from davy.predictor.model import Model
from davy.predictor.outliers import FlaggingModel
from davy.predictor.segments import SegmentReader
from davy.predictor.sources import Fingerprint, all_packages, fingerprint

# Longer than a request that began on a package that was let go of can take: its log is closed then.
LINGER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that was opened and warmed, what scores its rows and what tells their segment."""

    model: Model
    flagging: FlaggingModel | None
    segments: SegmentReader | None = None


class Repository:
    """Changes what is served.

    Parameters
    ----------
    models : Models
        What is served.
    folders : sequence of Path
        Packages, or folders of packages.
    load : callable
        Verifies, opens and warms the package in a folder; called in a thread.
    serve : callable
        Puts a loaded model behind its policy, metrics and log; called in the event loop.
    """

    def __init__(
        self,
        models: Models,
        folders: Sequence[Path],
        *,
        load: Callable[[Path], Loaded],
        serve: Callable[[Loaded, Path], Served],
    ) -> None:
        self.models = models
        self._folders = tuple(folders)
        self._load = load
        self._serve = serve
        self._paths: dict[str, Path] = {}
        self._seen: dict[Path, Fingerprint] = {}
        self._lock = asyncio.Lock()
        self._leaving: dict[asyncio.Task[None], Served] = {}
        self._watch: asyncio.Task[None] | None = None
        self._log = get_logger("predictor")

    def open(self) -> None:
        """Load every package of the folders; the newest of a name is its default.

        Raises
        ------
        NotFoundError, IntegrityError, InvalidInputError, ConfigurationError, PermanentError
            One of them cannot be served: then none is.
        """
        loaded = []
        for path in all_packages(self._folders):
            self._seen[path] = fingerprint(path)
            loaded.append((self._load(path), path))
        loaded.sort(key=lambda item: _age(item[0]))
        for each, path in loaded:
            self._take(self._serve(each, path))

    async def start(self, reload_seconds: float) -> None:
        """Begin telling of answers and, unless `reload_seconds` is 0, looking for changes."""
        for served in self.models.catalogue.entries:
            await served.sink.start()
        if reload_seconds > 0:
            self._watch = asyncio.create_task(self._look_again(reload_seconds))

    async def close(self) -> None:
        """End looking, and tell what is still to be told."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        leaving = list(self._leaving.items())
        for task, _ in leaving:
            task.cancel()
        for served in (*(served for _, served in leaving), *self.models.catalogue.entries):
            await served.sink.close()

    async def load(self, name: str, path: Path | None = None) -> Served:
        """Load a package; it takes the place of the default of its name.

        Parameters
        ----------
        name : str
            The model's name.
        path : Path, optional
            Its folder; the one that it was loaded from last when absent.

        Raises
        ------
        NotFoundError, IntegrityError, InvalidInputError, ConfigurationError, PermanentError
            It cannot be served; what was served still is.
        """
        async with self._lock:
            folder = path or self._paths.get(name)
            if folder is None:
                raise NotFoundError(
                    "was never loaded here", where=f"model '{name}'", fix="Name its folder: path"
                )
            mark = await asyncio.to_thread(fingerprint, folder)
            served = await self._prepare(folder, name)
            self._seen[folder] = mark
            old = [e for e in self.models.catalogue.entries if e.name == name][-1:]
            self._take(served, old)
            return served

    async def unload(self, name: str) -> None:
        """Serve no version of a model any longer.

        Raises
        ------
        NotFoundError
            It is not served here.
        """
        async with self._lock:
            self.models.find(name)
            self._drop([e for e in self.models.catalogue.entries if e.name == name])

    async def look(self) -> None:
        """Load what changed or is new in the folders; unload what is gone and has a successor."""
        async with self._lock:
            found = await asyncio.to_thread(all_packages, self._folders)
            for path in found:
                mark = await asyncio.to_thread(fingerprint, path)
                if mark != self._seen.get(path):
                    self._seen[path] = mark
                    await self._renew(path)
            for path in self._seen.keys() - set(found):
                if any(path.is_relative_to(folder) for folder in self._folders):
                    self._forget(path)

    async def _look_again(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.look()
            except Exception as error:
                # Whatever it is, the next look may pass: the task must not end.
                self._log.error("packages were not looked for", error=str(error), exc_info=error)

    async def _renew(self, path: Path) -> None:
        entries = self.models.catalogue.entries
        try:
            served = await self._prepare(path)
        except DavyError as error:
            self._log.error("package not loaded", path=str(path), error=str(error))
            return
        known = self._paths.get(served.name)
        if known is not None and not any(e.name == served.name for e in entries):
            # Unloaded on purpose.
            await served.sink.close()
            return
        self._take(served, [entry for entry in entries if entry.path == path])

    async def _prepare(self, path: Path, name: str | None = None) -> Served:
        loaded = await asyncio.to_thread(self._load, path)
        found = loaded.model.contract.name
        if name is not None and found != name:
            raise InvalidInputError(f"holds model '{found}', not '{name}'", where=str(path))
        served = self._serve(loaded, path)
        await served.sink.start()
        return served

    def _take(self, served: Served, instead: Sequence[Served] = ()) -> None:
        before = self.models.catalogue
        self.models.catalogue = before.with_entry(served, instead)
        self._paths[served.name] = served.path
        served.plane.metrics.serving(served=True)
        self._let_go(before.entries)
        self._log.info("package taken over", model=served.name, version=served.version)

    def _drop(self, gone: Sequence[Served]) -> None:
        before = self.models.catalogue
        self.models.catalogue = before.without(gone)
        self._let_go(before.entries)
        for served in gone:
            self._log.info("package unloaded", model=served.name, version=served.version)

    def _forget(self, path: Path) -> None:
        """Unload a package whose folder is gone, where another version can answer for it."""
        gone = [entry for entry in self.models.catalogue.entries if entry.path == path]
        if all(len(self.models.catalogue.versions(entry.name)) > 1 for entry in gone):
            del self._seen[path]
            self._drop(gone)

    def _let_go(self, before: Sequence[Served]) -> None:
        """Close what is served no longer, once nothing can still be answered by it."""
        now = self.models.catalogue.entries
        versions = {(entry.name, entry.version) for entry in now}
        for served in before:
            if served in now:
                continue
            if (served.name, served.version) not in versions:
                served.plane.metrics.serving(served=False)
            task = asyncio.get_running_loop().create_task(self._linger(served))
            self._leaving[task] = served
            task.add_done_callback(lambda done: self._leaving.pop(done, None))

    async def _linger(self, served: Served) -> None:
        await asyncio.sleep(LINGER_SECONDS)
        await served.sink.close()


def _age(loaded: Loaded) -> tuple[object, str]:
    contract = loaded.model.contract
    return contract.created, contract.version
