"""The certificate of the gRPC port: read, verified, and read again when it is renewed.

Belongs here: files to credentials. Not here: calls (`davy.predictor.grpc_server`), HTTP's TLS,
which is a proxy's.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from davy.core.errors import ConfigurationError
from davy.core.logging import get_logger


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the server's certificate with its chain, its key, whom clients are signed by.

    Without ``client_ca``, clients need no certificate.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def check(self) -> None:
        """Verify that the files can be read and belong together.

        Raises
        ------
        ConfigurationError
            They cannot, or do not.
        """
        where = f"{self.certificate}, {self.key}"
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            # A key with a password would be asked for on a terminal that nobody sits at.
            context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
            if self.client_ca is not None:
                where = str(self.client_ca)
                context.load_verify_locations(self.client_ca)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or str(error)
            raise ConfigurationError(
                f"not usable for TLS: {reason}",
                where=where,
                fix="DAVY_PREDICTOR_GRPC_TLS_CERT and _KEY name a certificate and its key, PEM",
            ) from None

    def credentials(self) -> Any:
        """Return gRPC's credentials; a renewed certificate is used from the next handshake on.

        Raises
        ------
        ConfigurationError
            As `check` does.
        """
        import grpc

        self.check()
        seen = self._marks()

        def config() -> Any:
            ca = None if self.client_ca is None else self.client_ca.read_bytes()
            pair = (self.key.read_bytes(), self.certificate.read_bytes())
            return grpc.ssl_server_certificate_configuration([pair], root_certificates=ca)

        def renewed() -> Any:
            # None: what it has goes on being used.
            nonlocal seen
            try:
                marks = self._marks()
                if marks == seen:
                    return None
                self.check()
                found = config()
            except (ConfigurationError, OSError) as error:
                # Half written: asked again at the next handshake.
                get_logger("predictor.grpc").warning("certificate not renewed", error=str(error))
                return None
            seen = marks
            return found

        return grpc.dynamic_ssl_server_credentials(
            config(), renewed, require_client_authentication=self.client_ca is not None
        )

    def _marks(self) -> tuple[tuple[int, int, int], ...]:
        files = [self.certificate, self.key, *([self.client_ca] if self.client_ca else [])]
        found = [path.stat() for path in files]
        return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in found)
