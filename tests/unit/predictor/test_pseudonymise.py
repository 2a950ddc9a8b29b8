import hashlib
import hmac

import numpy as np
import pytest

from davy.core.errors import ConfigurationError
from davy.packaging.package import Package
from davy.predictor.pseudonymise import Pseudonymiser
from davy.predictor.verify import check_columns
from davy.protocol.tensors import tensor
from davy.protocol.v2 import (
    InferRequest,
    InferResponse,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

KEY = b"a key of sixteen"
INPUTS = (
    tensor("household", np.array([[b"1167"], [b"12"]], object)),
    tensor("amount", np.array([1.5, np.nan], np.float32)),
)


@pytest.mark.parametrize("binary", [True, False])
def test_only_the_columns_change(binary: bool) -> None:
    pseudonymiser = Pseudonymiser(frozenset({"household"}), KEY)
    encoded = pseudonymiser.request(encode_request(InferRequest(INPUTS, id="r1"), binary=binary))
    assert (encoded.header_length is not None) == binary
    found = decode_request(*encoded)
    expected = hmac.new(KEY, b"1167", hashlib.sha256).hexdigest().encode()
    assert found.inputs[0].data[0, 0] == expected
    np.testing.assert_array_equal(found.inputs[1].data, INPUTS[1].data)
    assert found.id == "r1"


@pytest.mark.parametrize("binary", [("household",), ()])
def test_responses_too(binary: tuple[str, ...]) -> None:
    pseudonymiser = Pseudonymiser(frozenset({"household"}), KEY)
    body = encode_response(InferResponse("m", "v", INPUTS), binary=binary)
    found = decode_response(*pseudonymiser.response(body))
    assert b"1167" not in found.outputs[0].data.tobytes()
    assert found.outputs[0].data[1, 0] == pseudonymiser.value(b"12")


@pytest.mark.parametrize("columns", [frozenset(), frozenset({"nobody"})])
def test_a_body_without_such_columns_is_left_as_it_came(columns: frozenset[str]) -> None:
    pseudonymiser = Pseudonymiser(columns, KEY)
    encoded = encode_request(InferRequest(INPUTS))
    assert pseudonymiser.request(encoded) is encoded
    answer = encode_response(InferResponse("m", "v", INPUTS))
    assert pseudonymiser.response(answer) is answer


def test_another_key_gives_other_pseudonyms() -> None:
    one, other = (Pseudonymiser(frozenset(), key) for key in (KEY, b"another such key"))
    assert one.value(b"1167") != other.value(b"1167")


@pytest.mark.parametrize(
    ("column", "message"), [("amount", "'amount' is FP32"), ("house", "no tensor of the model")]
)
def test_columns_that_cannot_be_pseudonymised(package: Package, column: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_columns({column}, package.contract)
