"""Grafana dashboards of a model on the air, as code."""
