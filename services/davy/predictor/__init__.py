"""Serving one model package over the Open Inference Protocol, in a BentoML process.

Belongs here: the service, its HTTP routes, the input policy, metrics, the payload log.
Not here: codecs (`davy.protocol`), reading a package (`davy.packaging`), what watches the traffic.
"""
