"""Names of tensors that have a meaning to more than one part.

Belongs here: such names. Not here: what is done with them.
"""

from __future__ import annotations

# The output whose values are counted by the predictor, watched by the detector and explained.
SCORE = "score"
