"""Service level objectives: what a team promises of a model, as rules that Prometheus evaluates.

Belongs here: the file that people write, windows and burn rates, the generated rules.
Not here: alerts without an objective (``monitoring/rules``), dashboards.
"""
