"""Whether requests are sent to a canary that serves nobody, kept as it is wanted.

Belongs here: telling whoever sends them, and saying it again until it was heard. Not here: when it
is wanted (the engine), how it is told (adapters).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from davy.core.errors import TemporaryError
from davy.rollout.ports import Mirror
from davy.rollout.series import Arms


@dataclass(slots=True)
class Mirroring:
    """Tells a `Mirror` once, and after a start: the one before may have left it either way.

    What cannot be told is told again at the next look. Where it never is, nothing is counted, and
    without counts the first weight is not given.
    """

    mirror: Mirror
    arms: Arms
    log: Any
    told: bool | None = None

    def keep(self, *, wanted: bool) -> None:
        """Have it as it is wanted."""
        if self.told == wanted:
            return
        try:
            (self.mirror.begin if wanted else self.mirror.end)(self.arms)
        except TemporaryError as error:
            self.log.warning("mirroring not told", wanted=wanted, error=str(error))
        else:
            self.told = wanted
