"""Smaller and faster variants of a trained model, measured, and the choice among them.

Belongs here: making candidates (structured pruning, int8), the export to ONNX, measurement,
the choice on evidence. Not here: training from scratch, or the package's format.
"""
