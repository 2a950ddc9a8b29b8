"""How well a model does, told without labels.

Belongs here: estimates from its scores. Not here: performance by labels (`davy.detector.outcomes`),
windows, metrics.
"""
