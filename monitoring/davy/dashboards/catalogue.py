"""The pages that there are."""

from __future__ import annotations

from davy.dashboards.drift import DRIFT_PAGE
from davy.dashboards.model import MODEL_PAGE
from davy.dashboards.on_call import ON_CALL
from davy.dashboards.overview import OVERVIEW
from davy.dashboards.page import Page
from davy.dashboards.rollout import ROLLOUT_PAGE

PAGES: tuple[Page, ...] = (OVERVIEW, ON_CALL, MODEL_PAGE, ROLLOUT_PAGE, DRIFT_PAGE)
