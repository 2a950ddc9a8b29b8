"""The file from which a detector learns of the candidates that it sends requests to.

Belongs here: putting one rollout's candidate in and taking it out. Not here: the file's format
(`davy.protocol.shadow`), sending.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from davy.core.errors import InvalidInputError, UnavailableError
from davy.protocol.shadow import ShadowTarget, ShadowTargets, read_targets, write_targets
from davy.rollout.series import Arms


@dataclass(frozen=True, slots=True)
class ShadowFile:
    """A `Mirror` by a file that a detector reads (``DAVY_DETECTOR_SHADOW_TARGETS``).

    Parameters
    ----------
    path : Path
        The file; other candidates in it stay.
    servers : mapping of str to sequence of str
        URLs of the servers of each version; the first one is asked.
    """

    path: Path
    servers: Mapping[str, Sequence[str]]

    def begin(self, arms: Arms) -> None:
        """Name the canary and its server.

        Raises
        ------
        InvalidInputError
            The canary has no server, or the file is another one.
        UnavailableError
            It cannot be written.
        """
        urls = self.servers.get(arms.canary)
        if not urls:
            raise InvalidInputError(
                f"no server of {arms.canary} is named", where=str(self.path), fix="Name it"
            )
        target = ShadowTarget(stable=arms.stable, candidate=arms.canary, url=urls[0])
        self._write(arms, [target])

    def end(self, arms: Arms) -> None:
        """Take the canary out; errors as in `begin`."""
        self._write(arms, [])

    def _write(self, arms: Arms, own: list[ShadowTarget]) -> None:
        found = read_targets(self.path).targets
        wanted = [*(item for item in found if item.candidate != arms.canary), *own]
        if wanted == found:
            return
        try:
            write_targets(self.path, ShadowTargets(targets=wanted))
        except OSError as error:
            raise UnavailableError(
                f"cannot be written ({error.strerror})", where=str(self.path)
            ) from None
