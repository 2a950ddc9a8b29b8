"""Ports on the loopback address.

Belongs here: choosing ports and refusing those in use. Not here: who listens on them.
"""

from __future__ import annotations

import socket

from davy.core.errors import ConflictError

HOST = "127.0.0.1"
PORT_ADVICE = "Stop what listens there, or set DAVY_DEMO_PORT to another (0: free)"


class Ports:
    """Hands out ports: free ones, or one after the other from a first.

    Parameters
    ----------
    first : int
        First port; 0 asks the system for a free one each time.
    """

    def __init__(self, first: int = 0) -> None:
        self._next = first
        self._given: set[int] = set()

    def take(self, what: str) -> int:
        """Return a port for ``what``.

        Raises
        ------
        ConflictError
            The port that is next is in use.
        """
        if self._next:
            port, self._next = self._next, self._next + 1
            if not is_free(port):
                raise ConflictError(
                    f"port {port} is in use, wanted for {what}",
                    where=HOST,
                    fix=PORT_ADVICE,
                )
            return port
        while True:
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                port = int(probe.getsockname()[1])
            if port not in self._given:
                self._given.add(port)
                return port


def is_free(port: int) -> bool:
    """Say whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
