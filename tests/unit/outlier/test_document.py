import json
import subprocess
import sys

import numpy as np
import pytest

from davy.core.errors import InvalidInputError
from davy.core.files import parse_model, to_json
from davy.outlier.document import (
    FILE,
    OutlierDetector,
    OutlierDocument,
    from_document,
    to_document,
)
from davy.outlier.forest_fit import fit_forest
from davy.outlier.mahalanobis import fit_mahalanobis
from davy.outlier.threshold import conformal_threshold

FITS = {"mahalanobis": fit_mahalanobis, "isolation_forest": lambda rows: fit_forest(rows, trees=5)}


@pytest.fixture(scope="module", params=FITS)
def detector(request, mixed):
    rng = np.random.default_rng(0)
    scorer = FITS[request.param](mixed.usual(rng, 500))
    return OutlierDetector(scorer, conformal_threshold(scorer.score(mixed.usual(rng, 200)), 0.05))


def test_what_is_read_scores_as_what_was_written_bit_for_bit(mixed, detector):
    text = to_json(to_document(detector), indent=None)
    read = from_document(parse_model(json.loads(text), OutlierDocument, where=FILE))
    assert read.threshold == detector.threshold
    rows = mixed.spend_in_cents(mixed.usual(np.random.default_rng(1), 300))
    np.testing.assert_array_equal(read.scorer.score(rows), detector.scorer.score(rows))
    np.testing.assert_array_equal(read.flags(rows), detector.flags(rows))


def test_fields_of_a_newer_writer_are_kept(detector):
    fields = {**json.loads(to_json(to_document(detector))), "later": 1}
    assert json.loads(to_json(OutlierDocument.model_validate(fields)))["later"] == 1


@pytest.mark.filterwarnings("error")
def test_infinite_and_huge_values_are_outliers_without_a_warning(mixed, detector):
    rows = mixed.usual(np.random.default_rng(2), 4)
    rows["spend"][:] = [np.inf, -np.inf, 3e38, rows["spend"][3]]
    assert detector.flags(rows)[:2].all()


CHANGES = {
    "mahalanobis": [
        ("centre", lambda old: old[:-1]),
        ("whiten", lambda old: old[:-1]),
        ("whiten", lambda old: [old[0][:-1], *old[1:]]),
    ],
    "isolation_forest": [
        ("right", lambda old: [10**9, *old[1:]]),
        ("right", lambda old: old[:-1]),
        ("feature", lambda old: [99, *old[1:]]),
        ("feature", lambda old: [*old[:-1], 0]),
        ("roots", lambda old: [-1, *old[1:]]),
        ("depth", lambda old: 10**12),
    ],
}
ENCODER = [
    ("table", lambda old: old[:-1]),
    ("indicators", lambda old: [77]),
    ("mean", lambda old: old[:-1]),
    ("size", lambda old: [*old, 1]),
    ("share", lambda old: []),
    ("low", lambda old: [2**70, *old[1:]]),
    ("size", lambda old: [2**62, *old[1:]]),
]


def test_arrays_that_do_not_fit_each_other_are_refused(detector):
    document = json.loads(to_json(to_document(detector)))
    scorer = document["scorer"]
    for place, changes in ((scorer, CHANGES[scorer["method"]]), (scorer["encoder"], ENCODER)):
        for name, change in changes:
            old = place[name]
            place[name] = change(old)
            with pytest.raises(InvalidInputError, match=FILE):
                from_document(OutlierDocument.model_validate(document))
            place[name] = old
    from_document(OutlierDocument.model_validate(document))


def test_a_category_without_any_code_is_refused(detector):
    """Its sizes and its table fit each other, but no row could be looked up."""
    document = json.loads(to_json(to_document(detector)))
    encoder = document["scorer"]["encoder"]
    encoder["size"], encoder["table"] = [-1] * len(encoder["size"]), []
    with pytest.raises(InvalidInputError, match="categories do not fit"):
        from_document(OutlierDocument.model_validate(document))


def test_reading_and_scoring_needs_no_more_than_numpy():
    code = (
        "import sys, davy.outlier.document\n"
        "found = {'scipy', 'sklearn', 'alibi_detect', 'pandas'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
