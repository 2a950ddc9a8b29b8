"""PyOD's models on the rows of `bench_outlier`, in an environment of PyOD's own.

Run as ``outlier_rival.py ROWS.npz``; prints JSON. As its documentation shows it: missing values by
the median, columns standardised, the threshold from the training scores (`contamination`).
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from pyod.models.iforest import IForest
from pyod.models.mcd import MCD
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

warnings.filterwarnings("ignore")
MODELS: dict[str, Callable[[float], Any]] = {
    "PyOD MCD": lambda rate: MCD(contamination=rate, random_state=7),
    "PyOD IForest": lambda rate: IForest(contamination=rate, random_state=7),
}


def fitted(make: Callable[[float], Any], rate: float, rows: Any) -> Callable[[Any], Any]:
    """Return what tells which rows are outliers."""
    prepare = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    model = make(rate).fit(prepare.fit_transform(rows))
    return lambda new: model.predict(prepare.transform(new))


def seconds(flag: Callable[[Any], Any], rows: Any, calls: int) -> float:
    """Return the seconds of the fastest call."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        flag(rows)
        times.append(time.perf_counter() - began)
    return min(times)


def main(path: str) -> None:
    """Judge the rows of a file."""
    data = np.load(path)
    reference, weeks, rate = data["reference"], data["weeks"], float(data["rate"])
    found = {}
    for name, make in MODELS.items():
        usual = []
        for week in np.unique(weeks):
            flag = fitted(make, rate, reference[weeks != week])
            usual.append(float(flag(reference[weeks == week]).mean()))
        flag = fitted(make, rate, reference)
        live = data["live"]
        usual += [
            float(flag(live[data["live_weeks"] == w]).mean()) for w in np.unique(data["live_weeks"])
        ]
        faults = {k: float(flag(data[k]).mean()) for k in data.files if k.startswith("fault ")}
        costs = [seconds(flag, live[:rows], 50) for rows in (1, 100)]
        found[name] = {"usual": usual, "faults": faults, "seconds": costs}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
