import contextlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davy.core.errors import InvalidInputError
from davy.detector.labels import Label, read_labels

NOW = datetime(2017, 1, 1, tzinfo=UTC)
SENT = '{"request_id": "r1", "label": 1, "time": "2017-01-02T00:00:00+01:00"}'


def read(body):
    return read_labels(body.encode(), received=NOW)


def test_one_object_a_list_and_one_a_line_say_the_same():
    when = datetime(2017, 1, 2, tzinfo=timezone(timedelta(hours=1)))
    expected = Label("r1", (1.0,), when)
    assert read(SENT) == [expected]
    assert read(f"[{SENT}, {SENT}]") == [expected, expected]
    assert read(f"{SENT}\n\n{SENT}\n") == [expected, expected]
    assert read("[]") == []


def test_values_may_be_one_a_row_and_time_and_model_may_be_left_out():
    assert read('{"request_id": "r", "label": [0, 2.5, true], "model": "m"}') == [
        Label("r", (0.0, 2.5, 1.0), NOW, "m")
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "labels: not JSON"),
        ("7", "label: must be an object"),
        ('[{"request_id": "r", "label": 1}, 5]', r"labels\[1\]: must be an object"),
        ('{"request_id": "r", "label": 1}\n{"request_id"', "labels, line 2: not JSON"),
        ('{"request_id": "r", "labl": 1}', "unknown field 'labl'; did you mean 'label'"),
        ('{"label": 1}', "label.request_id: must be a text"),
        ('{"request_id": "", "label": 1}', "label.request_id"),
        ('{"request_id": "r"}', "label.label: must be a finite number"),
        ('{"request_id": "r", "label": "yes"}', "by its number"),
        ('{"request_id": "r", "label": []}', "label.label"),
        ('{"request_id": "r", "label": [1, null]}', "label.label"),
        ('{"request_id": "r", "label": 1e999}', "label"),
        ('{"request_id": "r", "label": 1, "time": "yesterday"}', "label.time: must be a time"),
        ('{"request_id": "r", "label": 1, "time": "2017-01-01"}', "with an offset"),
        ('{"request_id": "r", "label": 1, "model": 7}', "label.model"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(body, message):
    with pytest.raises(InvalidInputError, match=message):
        read(body)


@given(
    st.binary(max_size=200)
    | st.text(alphabet='{}[]",:0123456789 \nrequest_idlabel').map(str.encode)
)
@settings(deadline=None)
def test_no_bytes_whatever_are_more_than_refused(body):
    with contextlib.suppress(InvalidInputError):
        read_labels(body, received=NOW)
