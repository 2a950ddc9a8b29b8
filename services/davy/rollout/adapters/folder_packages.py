"""Packages in a folder store: the contract's gate defaults, signature and compression vetoes.

Belongs here: asking `davy.packaging`. Not here: verifying, which it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from davy.core.clock import Clock
from davy.core.errors import DavyError, NotFoundError
from davy.packaging.package import Package, read_package
from davy.rollout.ports import GateFacts
from davy.rollout.vetoes import Veto, compression_veto

# A package is verified anew this often: hashing it at every look would cost more than the look.
RECHECK_SECONDS = 60.0


@dataclass(slots=True)
class FolderPackages:
    """Versions by their folder.

    Parameters
    ----------
    folders : mapping of str to Path
        Version to its package.
    public_key : Path, optional
        Key of the signer; without it the signature veto, if asked for, stays active.
    clock : Clock
        Where the time comes from.
    """

    folders: Mapping[str, Path]
    clock: Clock
    public_key: Path | None = None
    _vetoes: dict[str, tuple[float, dict[str, Veto]]] = field(default_factory=dict)

    def facts(self, version: str) -> GateFacts:
        """Return what the version's contract asks of the gate; verifies the hashes."""
        contract = self._read(version).contract
        if contract.version != version:
            raise NotFoundError(
                f"holds version '{contract.version}', not '{version}'",
                where=str(self.folders[version]),
                fix="Name the candidate's version as its contract does",
            )
        rollout = contract.rollout
        return GateFacts(rollout.latency_objective_seconds, tuple(rollout.indicators))

    def vetoes(self, version: str, names: Sequence[str]) -> tuple[Veto, ...]:
        """Return the signature and compression vetoes among `names`."""
        now = self.clock.monotonic()
        checked = self._vetoes.get(version)
        if checked is None or now - checked[0] >= RECHECK_SECONDS:
            checked = (now, self._check(version))
            self._vetoes[version] = checked
        return tuple(checked[1][name] for name in names if name in checked[1])

    def _check(self, version: str) -> dict[str, Veto]:
        try:
            package = self._read(version, self.public_key)
        except DavyError as error:
            found = Veto("signature", True, str(error))
            return {"signature": found, "compression": Veto("compression", True, "not readable")}
        if self.public_key is None:
            signature = Veto("signature", True, "no public key is configured to verify it with")
        else:
            signature = Veto("signature", False, "verified")
        return {
            "signature": signature,
            "compression": compression_veto(package.contract.compression),
        }

    def _read(self, version: str, public_key: Path | None = None) -> Package:
        if version not in self.folders:
            known = ", ".join(sorted(self.folders)) or "none"
            raise NotFoundError(
                f"no package of version '{version}' (known: {known})", where="packages"
            )
        return read_package(self.folders[version], public_key=public_key)
