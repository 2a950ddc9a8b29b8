"""How strange is a row: scores, and the threshold above which a row is an outlier.

Belongs here: statistics of single rows against a reference; all of it pure.
Not here: windows of rows (`davy.drift`), reading packages, metrics and HTTP (`davy.predictor`).
"""
