"""The committed messages of the gRPC protocol are those of its proto file."""

from pathlib import Path

from davy.protocol import open_inference_pb2, stubs

FOLDER = Path(stubs.__file__).parent


def test_the_messages_are_as_committed() -> None:
    assert stubs.generate() == (FOLDER / stubs.MODULE).read_text(encoding="utf-8"), (
        "run: make generate"
    )


def test_they_are_written_by_name(tmp_path: Path) -> None:
    stubs.main(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [stubs.MODULE]


def test_nothing_is_registered_with_the_process() -> None:
    from google.protobuf import descriptor_pool

    assert open_inference_pb2.DESCRIPTOR.pool is not descriptor_pool.Default()
