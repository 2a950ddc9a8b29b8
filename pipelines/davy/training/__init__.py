"""Models and how good they are: fitting, quality per segment, calibration.

Belongs here: model families, baselines, evaluation with confidence intervals, the reference rows
and what past weeks say about them. Not here: making a model smaller, or the package's format.
"""
