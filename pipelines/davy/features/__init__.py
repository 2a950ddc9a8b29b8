"""From clean rows to one row per request and product, without a look into the future.

Belongs here: requests, candidates, signals from history, feature and segment definitions.
Not here: cleaning, and anything that learns.
"""
