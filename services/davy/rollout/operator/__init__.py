"""The operator: what carries ModelRollout resources out on a cluster, through the same engine.

Belongs here: which rollout may act, its order of writes, leader election, kopf's handlers.
Not here: any verdict (`davy.rollout.decide`), how KServe is moved (`davy.rollout.kserve`).
"""
