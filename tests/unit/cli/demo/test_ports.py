import socket

import pytest

from davy.cli.demo.ports import HOST, Ports, is_free
from davy.core.errors import ConflictError


def test_free_ports_differ():
    ports = Ports()
    assert len({ports.take("x") for _ in range(20)}) == 20


def test_a_port_in_use_is_named_with_what_it_was_for():
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(ConflictError, match=f"port {port} is in use, wanted for the router"):
            Ports(port).take("the router")
