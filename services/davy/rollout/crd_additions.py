"""What the models of a ModelRollout do not say of it, by the path of the field.

Belongs here: descriptions, bounds and CEL rules of the resource. Not here: making its schema
(`davy.rollout.crd`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from davy.protocol.shadow import TOLERANCES

# What the models do not say, by path. Bounds on lists and texts also keep the rules' cost low.
# A list of maps with keys refuses what is named twice, by itself.
SPEC_ADDITIONS: Mapping[str, Mapping[str, Any]] = {
    "spec": {
        "required": ["candidate", "inferenceServiceRef", "steps"],
        "x-kubernetes-validations": [
            {
                "rule": "!has(self.analysis) || !has(self.analysis.baseline) || "
                "!self.analysis.baseline || self.steps.all(s, s.weight < 50)",
                "message": "with a baseline a step's weight is at most 49",
            },
            {
                "rule": "!has(self.shadow) || !has(self.traffic) || self.traffic != 'Knative'",
                "message": "a canary in Knative mode cannot be reached before it has traffic: "
                "leave shadow out",
            },
        ],
    },
    "spec.inferenceServiceRef": {
        "x-kubernetes-validations": [
            {"rule": "self == oldSelf", "message": "inferenceServiceRef cannot be changed"}
        ],
    },
    "spec.inferenceServiceRef.name": {
        "description": "Its name, in the namespace of the rollout.",
        "minLength": 1,
        "maxLength": 63,
    },
    "spec.candidate": {
        "x-kubernetes-validations": [
            {
                "rule": "has(self.image) || has(self.packageURI)",
                "message": "name the image of the candidate, or the URI of its package",
            }
        ],
    },
    "spec.candidate.version": {
        "description": "Version of its package, as its contract has it.",
        "maxLength": 128,
    },
    "spec.candidate.image": {
        "description": "Image that serves it.",
        "minLength": 1,
        "maxLength": 1024,
    },
    "spec.candidate.packageURI": {
        "description": "Where its package is stored.",
        "minLength": 1,
        "maxLength": 1024,
    },
    "spec.traffic": {
        "description": "How KServe splits the traffic; Auto finds out.",
    },
    "spec.shadow.requests": {"description": "Fewest answers to compare."},
    "spec.shadow.errors": {"description": "Tolerable share of requests that fail."},
    "spec.shadow.differences": {
        "description": "Tolerable share of answers that differ from the served one."
    },
    "spec.shadow.slow": {
        "description": "Tolerable share of answers later than the package's objective; left out: "
        "none is too late."
    },
    "spec.shadow.tolerance": {
        "enum": list(TOLERANCES),
        "description": "How far an output may be from the served one: relative, absolute below 1.",
    },
    "spec.shadow.share": {
        "description": "Part of falseRollback that it may use, relative to the indicators'."
    },
    "spec.steps": {
        "description": "Weights that it goes through, ascending; after the last it takes over.",
        "maxItems": 100,
        "x-kubernetes-list-type": "atomic",
        "x-kubernetes-validations": [
            {
                "rule": "self.map(s, s.weight).isSorted() && "
                "self.all(a, self.exists_one(b, b.weight == a.weight))",
                "message": "steps must ascend in weight",
            }
        ],
    },
    "spec.steps[].weight": {"description": "Share of the canary in percent."},
    "spec.steps[].minDuration": {"description": "Shortest time at this weight."},
    "spec.steps[].minRequests": {
        "description": "Fewest requests of the canary at this weight.",
        "maximum": 1_000_000_000,
    },
    "spec.analysis": {
        "x-kubernetes-validations": [
            {
                "rule": "self.interval > duration('0s')",
                "message": "interval must be longer than 0s",
                "fieldPath": ".interval",
            },
            {
                "rule": "self.deadline >= self.interval",
                "message": "deadline is shorter than one interval: nothing could be decided",
                "fieldPath": ".deadline",
            },
        ],
    },
    "spec.analysis.interval": {"description": "Time between two looks."},
    "spec.analysis.deadline": {"description": "Time after which onInconclusive applies."},
    "spec.analysis.falseRollback": {
        "description": "Largest chance that a tolerable canary is rolled back."
    },
    "spec.analysis.falsePromotion": {
        "description": "Largest chance that an intolerable canary is promoted."
    },
    "spec.analysis.staleAfter": {"description": "Age at which a sample is no evidence any more."},
    "spec.analysis.baseline": {
        "description": "Compare with a fresh copy of the stable arm at the canary's weight "
        "(Standard mode)."
    },
    "spec.analysis.indicators": {
        "description": "What it is judged by; left out: as its package says.",
        "maxItems": 32,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    },
    "spec.analysis.indicators[]": {
        "x-kubernetes-validations": [
            {
                "rule": "self.name != 'shift' || !has(self.segments)",
                "message": "shift is split by score bucket already: it takes no segments",
            }
        ],
    },
    "spec.analysis.indicators[].name": {"description": "What counts as an event."},
    "spec.analysis.indicators[].ratio": {
        "description": "Tolerable ratio of the canary's rate to the stable arm's."
    },
    "spec.analysis.indicators[].allowance": {
        "description": "Rate of the canary that is tolerable however it compares."
    },
    "spec.analysis.indicators[].share": {
        "description": "Part of falseRollback that it may use, relative to the others'."
    },
    "spec.analysis.indicators[].segments": {
        "description": "A label of the counters by whose values it is judged, too."
    },
    "spec.analysis.indicators[].segments.label": {"description": "Name of the label."},
    "spec.analysis.indicators[].segments.values": {
        "description": "Values of the label, each judged beside the whole.",
        "x-kubernetes-list-type": "set",
    },
    "spec.analysis.indicators[].segments.values[]": {"maxLength": 256},
    "spec.analysis.vetoes": {
        "description": "What forbids to go on.",
        "maxItems": 16,
        "x-kubernetes-list-type": "set",
    },
    "spec.analysis.prometheus.url": {
        "description": "Its address; left out: as the operator is set.",
        "maxLength": 2048,
    },
    "spec.analysis.prometheus.selector": {
        "description": "Label matchers that are added to its queries.",
        "maxLength": 2048,
    },
    "spec.onInconclusive": {"description": "What happens at the deadline."},
    "spec.paused": {
        "description": "Goes no step on; a failing indicator still rolls back.",
    },
    "status.verdicts": {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["indicator"],
    },
    "status.evidence": {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["indicator"],
    },
    "status.conditions": {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    },
    "status.conditions[]": {
        "required": ["lastTransitionTime", "message", "reason", "status", "type"]
    },
}

# Where the model's default is that of a laptop, and the operator has a better one.
NO_DEFAULT = frozenset({"spec.analysis.prometheus", "spec.analysis.prometheus.url"})
