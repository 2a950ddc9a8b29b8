from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from davy.core.errors import InvalidInputError
from davy.packaging.contract import TensorSpec
from davy.predictor.validation import Checked, InputPolicy, Violation
from davy.protocol.tensors import DTYPES, Tensor, tensor
from davy.protocol.v2 import InferRequest


def number(name: str = "x", **fields: Any) -> TensorSpec:
    fields = {"datatype": "FP32", "range": {"low": 0, "high": 10}, **fields}
    return TensorSpec.model_validate({"name": name, **fields})


def floats(*values: float, name: str = "x") -> Tensor:
    return tensor(name, np.array(values, np.float32))


def integers(*values: int, name: str = "x") -> Tensor:
    return tensor(name, np.array(values, np.int64))


def texts(*values: bytes, name: str = "x") -> Tensor:
    return tensor(name, np.array(values, object))


def check(specs: list[TensorSpec], *tensors: Tensor) -> Checked:
    return InputPolicy(specs).check(InferRequest(tensors))


def test_what_the_contract_allows_passes_unchanged() -> None:
    given_ = floats(0, 10, 5)
    checked = check([number()], given_)
    assert checked.feed["x"] is given_.data
    assert (checked.rows, checked.violations, checked.rejection) == (3, (), None)


def test_flag_counts_and_goes_on() -> None:
    checked = check([number(policy="flag", missing="flag")], floats(-1, np.nan, 11, 5))
    assert checked.violations == (Violation("x", "missing", 1), Violation("x", "range", 2))
    assert checked.rejection is None
    np.testing.assert_array_equal(checked.feed["x"], np.array([-1, np.nan, 11, 5], np.float32))


def test_clip_moves_to_the_nearest_allowed_value_in_a_copy() -> None:
    given_ = floats(-1, np.nan, 11, 5)
    checked = check([number(policy="clip", missing="allow")], given_)
    assert checked.violations == (Violation("x", "range", 2),)
    np.testing.assert_array_equal(checked.feed["x"], np.array([0, np.nan, 10, 5], np.float32))
    assert checked.feed["x"].dtype == np.float32
    assert given_.data[0] == -1


def test_reject_names_input_row_and_rule() -> None:
    checked = check([number(policy="reject")], floats(1, 2, 250, -3))
    assert checked.violations == (Violation("x", "range", 2),)
    assert str(checked.rejection) == "input 'x' row 2: 250.0 is outside [0, 10] (rule 'range')"


def test_a_missing_value_is_rejected_where_it_may_not_miss() -> None:
    checked = check([number(policy="flag", missing="reject")], floats(1, np.nan))
    assert str(checked.rejection) == ("input 'x' row 1: a value is missing (NaN) (rule 'missing')")


def test_every_value_missing_is_no_range_violation() -> None:
    checked = check([number(policy="reject", missing="allow")], floats(np.nan, np.nan))
    assert (checked.violations, checked.rejection) == ((), None)


def test_open_ends_allow_infinity() -> None:
    spec = number(range={"low": 0}, policy="reject")
    assert check([spec], floats(np.inf)).rejection is None
    assert check([spec], floats(-np.inf)).rejection is not None


@pytest.mark.parametrize(
    ("spec", "given_", "clipped"),
    [
        (
            {"datatype": "INT64", "categories": [1, 5, 9]},
            integers(1, 2, 8, 100, -7),
            [1, 1, 9, 9, 1],
        ),
        ({"datatype": "INT64", "range": {"low": 1, "high": 5}}, integers(0, 3, 9), [1, 3, 5]),
    ],
)
def test_integers_are_clipped(spec: dict[str, Any], given_: Tensor, clipped: list[int]) -> None:
    spec = {"range": None, **spec, "policy": "clip"}
    checked = check([number(**spec)], given_)
    assert checked.feed["x"].tolist() == clipped
    assert checked.feed["x"].dtype == np.int64
    assert sum(item.values for item in checked.violations) == sum(
        old != new for old, new in zip(given_.data.tolist(), clipped, strict=True)
    )


def test_categories_of_text() -> None:
    spec = number(datatype="BYTES", range=None, categories=["web", "shop"], policy="flag")
    checked = check([spec], texts(b"web", b"fax", b"shop", b"fax"))
    assert checked.violations == (Violation("x", "category", 2),)
    assert checked.rejection is None
    # Text has no nearest: clip cannot be done, so it is refused.
    clip = spec.model_copy(update={"policy": "clip"})
    assert "b'fax' is none of the 2 categories" in str(check([clip], texts(b"fax")).rejection)


def test_several_rows_of_several_values() -> None:
    spec = number(shape=[-1, 2], policy="reject")
    data = np.array([[1, 2], [3, 40]], np.float32)
    assert "row 1" in str(check([spec], tensor("x", data)).rejection)


@pytest.mark.parametrize(
    ("specs", "tensors", "message"),
    [
        ([number()], [floats(1), floats(1, name="z")], "no such input"),
        ([number()], [floats(1), floats(1, name="x" * 100_000)], "no such input"),
        ([number("price")], [floats(1, name="price"), floats(1, name="prise")], "mean 'price'"),
        ([number()], [floats()], "has no rows"),
    ],
)
def test_a_request_of_another_form_is_an_error(
    specs: list[TensorSpec], tensors: list[Tensor], message: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check(specs, *tensors)
    assert message in str(caught.value)


@pytest.mark.parametrize("policy", ["reject", "clip", "flag"])
@pytest.mark.parametrize(
    ("given_", "feature", "rule", "message"),
    [
        ([floats(1)], "y", "missing", "input 'y': is missing"),
        ([floats(1), tensor("y", np.array([1.0]))], "y", "dtype", "must be FP32, not FP64"),
        ([tensor("x", np.zeros((1, 1), np.float32))], "x", "shape", "shape must be [-1]"),
        ([floats(1), tensor("y", np.zeros((1, 3), np.float32))], "y", "shape", "not [1, 3]"),
        ([floats(1, 2), floats(1, name="y")], "y", "shape", "1 rows but 'x' has 2"),
    ],
)
def test_a_tensor_of_another_form_is_counted_and_rejected_whatever_the_policy(
    given_: list[Tensor], feature: str, rule: Any, message: str, policy: str
) -> None:
    checked = check([number(policy=policy), number("y", policy=policy)], *given_)
    assert checked.violations == (Violation(feature, rule, 1),)
    assert message in str(checked.rejection)
    assert not checked.feed


@pytest.mark.parametrize(
    ("policy", "fed"), [("reject", [1, 4, 9]), ("clip", [1, 5, 9]), ("flag", [1, 4, 9])]
)
@pytest.mark.parametrize("kind", ["INT64", "FP32"])
def test_categories_of_numbers_by_policy(kind: str, policy: str, fed: list[int]) -> None:
    spec = number(datatype=kind, range=None, categories=[1, 5, 9], policy=policy)
    checked = check([spec], tensor("x", np.array([1, 4, 9], DTYPES[kind])))
    assert checked.violations == (Violation("x", "category", 1),)
    assert (checked.rejection is not None) == (policy == "reject")
    assert checked.feed["x"].tolist() == fed


@given(
    st.lists(
        st.tuples(
            st.floats(-20, 20, width=32) | st.just(float("nan")),
            st.floats(-20, 20, width=32) | st.just(float("nan")),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(["allow", "reject", "flag"]),
    st.sampled_from(["clip", "reject", "flag"]),
)
def test_asking_all_at_once_finds_what_asking_one_by_one_finds(
    rows: list[tuple[float, float]], missing: Any, policy: Any
) -> None:
    specs = [
        number("x", missing=missing, policy=policy),
        number("y", missing="allow", policy="flag", range={"low": -5, "high": None}),
    ]
    x, y = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    checked = check(specs, tensor("x", x), tensor("y", y))
    counts = {(item.feature, item.rule): item.values for item in checked.violations}
    expected = {
        ("x", "missing"): int(np.isnan(x).sum()) if missing != "allow" else 0,
        ("x", "range"): int(((x < 0) | (x > 10)).sum()),
        ("y", "range"): int((y < -5).sum()),
    }
    assert counts == {key: value for key, value in expected.items() if value}
    rejects = (missing == "reject" and expected["x", "missing"]) or (
        policy == "reject" and expected["x", "range"]
    )
    assert (checked.rejection is not None) == bool(rejects)


@pytest.mark.parametrize("policy", ["reject", "clip", "flag"])
@pytest.mark.parametrize("categories", [None, ["a"]])
def test_text_that_is_not_utf_8_is_refused_whatever_the_policy(
    policy: str, categories: list[str] | None
) -> None:
    spec = number(datatype="BYTES", range=None, categories=categories, policy=policy)
    assert check([spec], texts(b"a")).rejection is None
    with pytest.raises(InvalidInputError, match="input 'x' row 1: is not UTF-8"):
        check([spec], texts(b"a", b"\xff", b"a"))
    wide = number(datatype="BYTES", range=None, shape=[-1, 2])
    rows = np.array([[b"a", b"a"], [b"a", b"\xfe"]], dtype=object)
    with pytest.raises(InvalidInputError, match="input 'x' row 1: is not UTF-8"):
        check([wide], Tensor("x", "BYTES", (2, 2), rows))
