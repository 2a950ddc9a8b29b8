from __future__ import annotations

import json
from datetime import timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davy.core.errors import InvalidInputError
from davy.core.files import parse_model, to_json
from davy.packaging.contract import (
    Calibration,
    Compression,
    CompressionCandidate,
    Contract,
    FeatureNull,
    GateDefault,
    Interval,
    Lineage,
    Metric,
    Outliers,
    Privacy,
    Range,
    RolloutDefaults,
    TensorSpec,
    Training,
    score_output,
)
from davy.packaging.manifest import FileEntry, Manifest, canonical, identity, without_version

text = st.text(st.characters(codec="utf-8"), max_size=12)
number = st.floats(allow_nan=False, allow_infinity=False)
count = st.integers(0, 2**40)
time = st.datetimes(timezones=st.just(timezone.utc))  # noqa: UP017 (hypothesis prints it)


def small(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=2)


def by_name(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(text, values, max_size=2)


intervals = st.builds(Interval, value=number, lower=number, upper=number, n=count, level=number)
metrics = st.builds(Metric, name=text, overall=intervals, segments=by_name(intervals))
ranges = st.tuples(number, number).map(lambda ends: Range(low=min(ends), high=max(ends)))
tensors = st.builds(
    TensorSpec,
    name=text,
    datatype=st.sampled_from(["FP32", "INT64", "BYTES"]),
    shape=st.just([-1]),
    unit=st.none() | text,
    range=st.none() | ranges | st.just(Range(low=0)),
    categories=st.none() | small(text) | small(count),
    policy=st.sampled_from(["reject", "clip", "flag"]),
    missing=st.sampled_from(["allow", "reject", "flag"]),
)
candidates = st.builds(
    CompressionCandidate,
    name=text,
    bytes=count,
    batch=count,
    latency_seconds=intervals,
    quality=intervals,
    difference=st.none() | intervals,
    segments=by_name(intervals),
    eligible=st.booleans(),
    reason=text,
    details=by_name(number | text | st.none()),
)
nulls = st.builds(FeatureNull, feature=text, detector=st.sampled_from(["ks", "chi2", "missing"]),
                  distances=small(number), floor=number)  # fmt: skip
outliers = st.builds(
    Outliers,
    file=text,
    method=text,
    threshold=number,
    false_positive_rate=number,
    rows=count,
    batch=count,
    seconds=intervals,
    model_seconds=intervals,
    in_request=st.booleans(),
    why=text,
)
contracts = st.builds(
    Contract,
    name=text,
    version=text,
    task=text,
    kind=st.sampled_from(["ranking", "classification", "regression"]),
    quantization=text,
    created=time,
    inputs=small(tensors),
    outputs=small(tensors),
    training=st.builds(
        Training,
        data_fingerprint=text,
        rows=count,
        start=time,
        end=time,
        code_version=text,
        seed=count,
        libraries=by_name(text),
    ),
    metrics=small(metrics),
    baselines=by_name(metrics),
    compression=st.builds(
        Compression,
        budget=number,
        prefer=st.sampled_from(["size", "latency"]),
        candidates=small(candidates),
        chosen=text,
        why=text,
    ),
    calibration=st.builds(
        Calibration,
        window_rows=count,
        blocks=count,
        nulls=small(nulls),
        score_buckets=small(number),
        score_shares=small(number),
    ),
    rollout=st.builds(
        RolloutDefaults,
        latency_objective_seconds=number,
        indicators=small(st.builds(GateDefault, name=text, ratio=number, allowance=number)),
    ),
    privacy=st.builds(Privacy, pseudonymised=small(text), epsilon=st.none() | number),
    lineage=st.builds(Lineage, parent=st.none() | text, pipeline_run=st.none() | text),
    segments=small(text),
    outliers=st.none() | outliers,
)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
manifests = st.builds(
    Manifest,
    identity=digests,
    files=by_name(st.builds(FileEntry, sha256=digests, size=count)),
)


@given(contracts)
@settings(max_examples=60, deadline=None)
def test_a_contract_survives_json(contract: Contract) -> None:
    again = parse_model(json.loads(to_json(contract)), Contract, where="test")
    assert again == contract
    assert to_json(again) == to_json(contract)


@given(manifests)
@settings(max_examples=60, deadline=None)
def test_a_manifest_survives_canonical_json(manifest: Manifest) -> None:
    data = canonical(manifest.model_dump())
    document = json.loads(data)
    assert parse_model(document, Manifest, where="test") == manifest
    assert canonical(document) == data


def test_fields_of_a_newer_writer_are_kept(draft: Contract) -> None:
    fields = draft.model_dump(mode="json")
    fields["carbon"] = {"grams": 12.5}
    fields["inputs"][0]["embedding"] = [1, 2]
    again = parse_model(fields, Contract, where="test")
    written = json.loads(to_json(again))
    assert written["carbon"] == {"grams": 12.5}
    assert written["inputs"][0]["embedding"] == [1, 2]


def test_a_range_the_wrong_way_round_is_refused(draft: Contract) -> None:
    fields = draft.model_dump(mode="json")
    fields["inputs"][0]["range"] = {"low": 5, "high": 1}
    with pytest.raises(InvalidInputError, match=r"inputs\.0\.range.*low 5\.0 is above high 1\.0"):
        parse_model(fields, Contract, where="contract.json")


def test_canonical_json_has_one_form_and_no_nan() -> None:
    assert canonical({"b": "é", "a": [1, 2.5]}) == '{"a":[1,2.5],"b":"é"}'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": float("nan")})


def test_identity_covers_every_field_but_itself() -> None:
    entry = without_version(b"version 2026.01.01-aaaa here", "2026.01.01-aaaa")
    document = {
        "schema_version": "1",
        "identity": "0" * 64,
        "files": {"contract.json": {"sha256": "1" * 64, "size": 3}},
    }
    bare = {"contract.json": entry}
    first = identity(document, bare)
    assert first == identity({**document, "identity": "f" * 64}, bare)
    assert first != identity({**document, "made_by": "a newer writer"}, bare)
    assert first == identity({**document, "files": {}}, bare)
    assert entry == without_version(b"version  here", "")


@pytest.mark.parametrize(
    ("outputs", "name"),
    [
        ([("score", "FP32")], "score"),
        ([("margin", "FP32"), ("score", "FP32")], "score"),
        ([("rank", "INT64"), ("chance", "FP64"), ("margin", "FP32")], "chance"),
        ([("rank", "INT64"), ("name", "BYTES")], "rank"),
        ([], ""),
    ],
)
def test_the_score_among_the_outputs(outputs: list[tuple[str, Any]], name: str) -> None:
    assert score_output([TensorSpec(name=n, datatype=d) for n, d in outputs]) == name
