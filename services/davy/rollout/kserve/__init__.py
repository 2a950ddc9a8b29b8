"""What has to be written to an InferenceService, as pure functions of what is observed.

Belongs here: how KServe's two modes take a canary, carry its weight, and let go of an arm.
Not here: talking to the API server (`davy.rollout.adapters`), any verdict (`davy.rollout.decide`).
"""
