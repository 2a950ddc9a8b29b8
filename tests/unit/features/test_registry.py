"""What a task may name: features, types, units, segments."""

import pytest

from davy.core.errors import InvalidInputError
from davy.data.task import parse_task, task_text
from davy.features.registry import DEFINITIONS, SEGMENTS, check_names


def test_the_task_file_names_every_definition(small_task):
    check_names(small_task)
    assert [feature.name for feature in small_task.features] == list(DEFINITIONS)
    assert list(small_task.segments) == list(SEGMENTS)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "features.popularity_28d.name=popularity_28",
            "unknown feature 'popularity_28'; did you mean 'popularity_28d'?",
        ),
        (
            "features.spend_28d.unit=dollars",
            "not in unit 'dollars'; did you mean 'dollar'? (units: dollar, cent)",
        ),
        ("features.decayed_count.unit=day", "not in unit 'day' (units: it has none)"),
        ("features.department.type=number", "'department' cannot be a number, it is a category"),
        ("features.department.range=[1, 15]", "its range must begin there"),
        ("segments=[shoper]", "unknown segment 'shoper'; did you mean 'shopper'?"),
    ],
)
def test_what_is_unknown_is_named_with_its_nearest_match(small_task, override, message):
    task = parse_task(task_text(small_task), [override])
    with pytest.raises(InvalidInputError) as caught:
        check_names(task)
    assert message in str(caught.value)
    assert "task 'next_basket'" in str(caught.value)


def test_all_problems_are_told_at_once(small_task):
    task = parse_task(
        task_text(small_task), ["features.spend_28d.unit=euro", "segments=[age, shopper]"]
    )
    with pytest.raises(InvalidInputError, match=r"euro.*unknown segment 'age'"):
        check_names(task)


def test_definitions_cannot_be_changed():
    with pytest.raises(TypeError):
        DEFINITIONS["other"] = DEFINITIONS["unit_price"]
