"""The service that hears of every sampled inference and says whether the inputs have drifted.

Belongs here: payload events in, windows, verdicts out as metrics, JSON and log lines.
Not here: the statistics (`davy.drift`), and what is done about a verdict (alerts, the gate).
"""
