"""The guarded way back to training: when to train again, and that the result enters as a canary.

Belongs here: the policy that people write, the decision, what it reads, what it starts.
Not here: training (`davy.kubeflow`), canaries (`davy.rollout`), drift (`davy.detector`).
"""
