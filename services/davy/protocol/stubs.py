"""The Python messages of ``open_inference.proto``, made by the protocol buffer compiler.

Belongs here: generating ``open_inference_pb2.py``. Not here: using it
(`davy.protocol.grpc_codec`). Run as ``python -m davy.protocol.stubs FOLDER``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from davy.core.errors import MissingDependencyError, PermanentError
from davy.core.files import write_atomic

PROTO = "open_inference.proto"
MODULE = "open_inference_pb2.py"

_SHARED_POOL = "_descriptor_pool.Default()"
_OWN_POOL = "_descriptor_pool.DescriptorPool()"


def generate() -> str:
    """Return the text of the module with the messages.

    The compiler's own text registers them with the process. Every client of this protocol brings
    messages of the same names, and two of one name there are an error, so ours keep to themselves.

    Raises
    ------
    MissingDependencyError
        The compiler is not installed.
    PermanentError
        It refuses the file, or writes what we cannot keep to itself.
    """
    try:
        from grpc_tools import protoc
    except ImportError:
        raise MissingDependencyError("grpcio-tools is not installed", fix="make setup") from None
    source = Path(__file__).with_name(PROTO)
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["protoc", f"-I{source.parent}", f"--python_out={folder}", source.name]
        if protoc.main(arguments) != 0:
            raise PermanentError("the compiler refuses it", where=str(source))
        text = (Path(folder) / MODULE).read_text(encoding="utf-8")
    if text.count(_SHARED_POOL) != 1:
        raise PermanentError(f"'{_SHARED_POOL}' is not there once", where=MODULE)
    return text.replace(_SHARED_POOL, _OWN_POOL)


def main(folder: Path) -> None:
    """Write the module into `folder`."""
    write_atomic(folder / MODULE, generate())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
