"""``python -m tests.cluster.bed up|down|status``: a Kubernetes node on this machine, for people.

Belongs here: the command line. Not here: what it does (`node`).
"""

from __future__ import annotations

import sys

from tests.cluster.bed.apiserver import DidNotStartError
from tests.cluster.bed.node.addons import start_addons
from tests.cluster.bed.node.node import Node
from tests.cluster.bed.node.programs import find_node_programs
from tests.cluster.bed.node.settings import settings_here
from tests.cluster.bed.programs import ProgramsMissingError

USAGE = "usage: python -m tests.cluster.bed up|down|status\n"


def main(arguments: list[str]) -> int:
    """Do one of the three; return the exit code."""
    commands = {"up": _up, "down": _down, "status": _status}
    if len(arguments) != 1 or arguments[0] not in commands:
        sys.stderr.write(USAGE)
        return 64
    try:
        node = Node(settings_here(), find_node_programs())
        return commands[arguments[0]](node)
    except (ProgramsMissingError, DidNotStartError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 69


def _up(node: Node) -> int:
    node.up()
    start_addons(node)
    for step, seconds in node.times:
        sys.stdout.write(f"{seconds:6.1f} s  {step}\n")
    sys.stdout.write(f"export KUBECONFIG={node.server.kubeconfig}\n")
    return 0


def _down(node: Node) -> int:
    left = node.down()
    for item in left:
        sys.stdout.write(f"left: {item}\n")
    return 1 if left else 0


def _status(node: Node) -> int:
    running = node.running()
    if not running:
        sys.stdout.write("down\n")
        return 1
    for name, pid in running.items():
        sys.stdout.write(f"{name:24} {pid or 'has ended'}\n")
    return 0 if all(running.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
