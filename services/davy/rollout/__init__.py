"""The gate: whether a candidate takes over, step by step, on evidence.

Belongs here: the tests, the decision, its record, the engine, its ports and adapters.
Not here: serving a model, drift detectors, how a package is made.
"""
