"""What the contract makes of a value is the same for the predictor and for a replay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davy.packaging.allowed import clipped
from davy.packaging.contract import TensorSpec
from davy.predictor.validation import InputPolicy
from davy.protocol.tensors import DTYPES, Tensor
from davy.protocol.v2 import InferRequest


@st.composite
def columns(draw: st.DrawFn) -> tuple[TensorSpec, np.ndarray]:
    """Return an input of any policy, and values in and out of what it allows."""
    datatype = draw(st.sampled_from(["FP32", "FP64", "INT64", "INT8", "UINT8"]))
    ends = st.none() | st.integers(-5, 5)
    low, high = draw(ends), draw(ends)
    if low is not None and high is not None and low > high:
        low, high = high, low
    spec = TensorSpec.model_validate(
        {
            "name": "x",
            "datatype": datatype,
            "range": draw(st.none() | st.just({"low": low, "high": high})),
            "categories": draw(st.none() | st.lists(st.integers(-5, 5), min_size=1, max_size=4)),
            "policy": draw(st.sampled_from(["clip", "flag"])),
            "missing": draw(st.sampled_from(["allow", "flag"])),
        }
    )
    values = draw(st.lists(st.integers(-9, 9), min_size=1, max_size=6))
    if datatype == "UINT8":
        values = [abs(value) for value in values]
    data = np.array(values, DTYPES[datatype])
    if datatype.startswith("FP"):
        data[np.array(draw(st.lists(st.booleans(), min_size=len(data), max_size=len(data))))] = (
            np.nan
        )
    return spec, data


@settings(deadline=None)
@given(columns())
def test_a_replay_gives_the_model_what_the_predictor_gave_it(
    column: tuple[TensorSpec, np.ndarray],
) -> None:
    spec, data = column
    before = data.copy()
    request = InferRequest((Tensor("x", spec.datatype, data.shape, data),))
    served = InputPolicy([spec]).check(request)
    assert served.rejection is None
    again = clipped(spec, data)
    assert again.dtype == served.feed["x"].dtype
    np.testing.assert_array_equal(again, served.feed["x"])
    np.testing.assert_array_equal(data, before)


@pytest.mark.parametrize(("policy", "value"), [("clip", 10.0), ("flag", 99.0), ("reject", 99.0)])
def test_only_a_value_that_is_to_be_clipped_moves(policy: str, value: float) -> None:
    spec = TensorSpec.model_validate(
        {"name": "x", "datatype": "FP32", "range": {"high": 10}, "policy": policy}
    )
    assert clipped(spec, np.array([99, 3], np.float32)).tolist() == [value, 3.0]


def test_texts_stay() -> None:
    spec = TensorSpec(name="x", datatype="BYTES", categories=["a"], policy="clip")
    data = np.array([b"b"], dtype=object)
    assert clipped(spec, data) is data
