"""Has the model's input changed: distances, their nulls from real past weeks, and the verdict.

Belongs here: statistics over one window of rows and over a sequence of windows; all of it pure.
Not here: collecting windows, reading packages, metrics and HTTP (`davy.detector` does that).
"""
