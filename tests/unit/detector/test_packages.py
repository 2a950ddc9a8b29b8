from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fixtures import tiny_package

from davy.core.errors import IntegrityError, InvalidInputError, NotFoundError
from davy.core.files import to_json
from davy.detector.packages import FolderPackages
from davy.detector.settings import DetectorSettings
from davy.outlier.document import OutlierDetector, to_document
from davy.outlier.mahalanobis import fit_mahalanobis
from davy.outlier.threshold import conformal_threshold
from davy.packaging.package import write_package
from davy.packaging.sign import generate_keys

INTERVAL = {"value": 0.5, "lower": 0.4, "upper": 0.6, "n": 100}
NULL = [round(0.0002 * n, 5) for n in range(1, 501)]


def contract(**changes):
    fields = {
        "name": "small",
        "task": "small",
        "inputs": [
            {"name": "price", "datatype": "FP32", "missing": "allow"},
            {"name": "department", "datatype": "INT64"},
        ],
        "calibration": {
            "window_rows": 200,
            "blocks": 2,
            "nulls": [
                {"feature": "price", "detector": "ks", "distances": NULL, "floor": 0.12},
                {"feature": "department", "detector": "chi2", "distances": NULL, "floor": 0.12},
            ],
        },
    }
    return tiny_package.contract(**{**fields, **changes})


def columns(rows=500):
    rng = np.random.default_rng(0)
    return {
        "price": rng.normal(0, 1, rows).astype(np.float32),
        "department": rng.integers(0, 4, rows),
        "score": rng.random(rows).astype(np.float32),
        "label": np.zeros(rows, np.int8),
        "block": np.repeat([1, 2], rows // 2),
    }


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a package and returns its version."""

    def make(*, reference=None, private_key=None, scorer=None, **changes):
        model = tmp_path / "model.onnx"
        model.write_bytes(b"a model")
        table = tmp_path / "reference.parquet"
        if isinstance(reference, bytes):
            table.write_bytes(reference)
        else:
            pq.write_table(pa.table(reference or columns()), table)
        files = {"model.onnx": model, "reference.parquet": table}
        if scorer is not None:
            files["outlier.json"] = tmp_path / "outlier.json"
            files["outlier.json"].write_text(scorer)
        package = write_package(
            tmp_path / "store", contract(**changes), files, private_key=private_key
        )
        return package.contract.version

    return make


def load(tmp_path, version, **settings):
    settings = {"engine": "native", "store": tmp_path / "store", **settings}
    return FolderPackages(DetectorSettings(**settings)).load(version)


def test_a_package_becomes_what_is_watched_of_it(tmp_path, write):
    subject = load(tmp_path, write(), consecutive_windows=3)
    assert subject.model == "small"
    assert subject.categories == {"price": False, "department": True}
    assert (subject.rules.window_rows, subject.rules.consecutive) == (200, 3)
    assert subject.coarse == ()
    rng = np.random.default_rng(1)
    window = {
        "price": rng.normal(2, 1, 200),
        "department": rng.integers(0, 4, 200),
        "score": rng.random(200),
    }
    assert [item.feature for item in subject.detector.test(window).drifted] == ["price"]


SCORE = {"name": "score", "datatype": "FP32", "shape": [-1]}


@pytest.mark.parametrize(
    ("kind", "outputs", "expected"),
    [
        ("classification", [SCORE], True),
        ("classification", [SCORE, {**SCORE, "name": "predicted", "datatype": "INT64"}], False),
        ("classification", [{**SCORE, "datatype": "INT64"}], False),
        ("classification", [{**SCORE, "shape": [-1, 3]}], False),
        ("regression", [SCORE], False),
        ("ranking", [SCORE], False),
    ],
)
def test_a_binary_classifiers_score_is_a_probability(tmp_path, write, kind, outputs, expected):
    version = write(kind=kind, outputs=outputs)
    assert load(tmp_path, version).probability is expected


OUTLIERS = {
    "file": "outlier.json",
    "method": "mahalanobis",
    "threshold": 1.0,
    "false_positive_rate": 0.05,
    "rows": 250,
    "batch": 100,
    "seconds": INTERVAL,
    "model_seconds": INTERVAL,
    "in_request": False,
    "why": "a test says so",
}


def test_a_packages_scorer_of_rows_comes_with_it(tmp_path, write):
    rows = {name: columns()[name] for name in ("price", "department")}
    scorer = fit_mahalanobis(rows)
    detector = OutlierDetector(scorer, conformal_threshold(scorer.score(rows), 0.05))
    version = write(scorer=to_json(to_document(detector)), outliers=OUTLIERS)
    found = load(tmp_path, version).outliers
    window = {"price": np.array([0.0, 50.0]), "department": np.array([1, 1])}
    assert found.flags(window).tolist() == [False, True]


@pytest.mark.parametrize("scorer", [None, "{}", "no JSON"])
def test_a_scorer_that_cannot_be_read_keeps_no_drift_from_being_watched(tmp_path, write, scorer):
    subject = load(tmp_path, write(scorer=scorer, outliers=OUTLIERS))
    assert subject.outliers is None
    assert subject.rules.window_rows == 200


def test_a_package_without_one_has_none(tmp_path, write):
    assert load(tmp_path, write()).outliers is None


def test_too_few_past_distances_are_named(tmp_path, write):
    few = [{"feature": "price", "detector": "ks", "distances": [0.1], "floor": 0.12}]
    calibration = {"window_rows": 200, "blocks": 2, "nulls": few}
    assert load(tmp_path, write(calibration=calibration)).coarse == (("price", "ks"),)


@pytest.mark.parametrize("version", ["2017.12.31-00000000", "../../etc", "*", "", ".hidden"])
def test_no_such_version(tmp_path, write, version):
    write()
    with pytest.raises(NotFoundError, match="no package of version"):
        load(tmp_path, version)


def test_a_package_in_a_folder_of_another_name_is_not_that_version(tmp_path, write):
    version = write()
    folder = tmp_path / "store" / "small" / version
    folder.rename(folder.with_name("2017.12.31-other"))
    with pytest.raises(NotFoundError, match=f"holds version '{version}', not '2017.12.31-other'"):
        load(tmp_path, "2017.12.31-other")


def test_the_score_is_found_by_the_contract(tmp_path, write):
    outputs = [{"name": "rank", "datatype": "INT64"}, {"name": "chance", "datatype": "FP32"}]
    assert load(tmp_path, write(outputs=outputs)).output == "chance"


def test_no_store(tmp_path):
    with pytest.raises(NotFoundError, match="DAVY_DETECTOR_STORE"):
        load(tmp_path, "2017.12.31-00000000", store=tmp_path / "nowhere")


def test_one_flipped_byte_is_an_integrity_error(tmp_path, write):
    version = write()
    path = tmp_path / "store" / "small" / version / "reference.parquet"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"reference\.parquet"):
        load(tmp_path, version)


def test_a_signature_is_checked_against_the_key(tmp_path, write):
    ours, theirs = (generate_keys(tmp_path / name) for name in ("ours", "theirs"))
    version = write(private_key=Path(ours[0]))
    assert load(tmp_path, version, public_key=ours[1]).version == version
    with pytest.raises(IntegrityError):
        load(tmp_path, version, public_key=theirs[1])


def test_a_reference_without_a_feature_is_named(tmp_path, write):
    without = {name: values for name, values in columns().items() if name != "price"}
    version = write(reference=without)
    with pytest.raises(InvalidInputError, match="lacks the columns price"):
        load(tmp_path, version)


def test_a_reference_that_is_no_parquet(tmp_path, write):
    version = write(reference=b"text")
    with pytest.raises(InvalidInputError, match=r"reference\.parquet: cannot be read as Parquet"):
        load(tmp_path, version)


def test_a_package_without_calibration(tmp_path, write):
    version = write(calibration={"window_rows": 200, "blocks": 0, "nulls": []})
    with pytest.raises(InvalidInputError, match="no past distances"):
        load(tmp_path, version)
