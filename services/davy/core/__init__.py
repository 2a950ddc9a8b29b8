"""What every other part stands on: errors, settings, clock, logging, files.

Belongs here: what at least three layers need and that knows nothing of models.
Not here: anything that imports another part of Davy.
"""
