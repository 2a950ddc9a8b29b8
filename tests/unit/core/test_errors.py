import inspect

from davy.core import errors


def every_class():
    return [
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.DavyError) and cls is not errors.DavyError
    ]


def test_message_says_what_where_and_what_to_do():
    error = errors.NotFoundError("no such file", where="a/task.yaml", fix="Check the path")
    assert str(error) == "a/task.yaml: no such file. Check the path"


def test_message_without_place_or_advice():
    assert str(errors.NotFoundError("no such file")) == "no such file"


def test_every_class_is_permanent_or_temporary_with_a_status_and_an_exit_code():
    for cls in every_class():
        assert issubclass(cls, errors.PermanentError) != issubclass(cls, errors.TemporaryError)
        assert 400 <= cls.http_status < 600
        assert 64 <= cls.exit_code <= 78


def test_a_temporary_error_says_when_to_try_again():
    assert errors.UnavailableError("not ready", delay=5.0).delay == 5.0
