"""The training pipeline for Kubeflow Pipelines, on a cluster or on this machine.

Belongs here: thin components, the pipeline, compiling it, running it through ``kfp.local``.
Not here: the work of a step; that is a plain function of the part that the step is named after.
"""
