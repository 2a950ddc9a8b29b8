"""What follows from what a cluster answers: resources, modes, gateway, rights, clock.

Belongs here: pure checks of objects. Not here: asking (`davy.cli.doctor.cluster_facts`), Prometheus
(`davy.cli.doctor.scraping`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from davy.cli.doctor.finding import Finding, fail, ok, skip, warn
from davy.cli.doctor.local import LICENCE, LICENCE_REMEDY
from davy.cli.doctor.rights import STANDARD_ONLY, Right, Role
from davy.rollout.kserve import service as isvc
from davy.rollout.kserve.mode import Mode, mode_of, takes_canary
from davy.rollout.kserve.moves import Refuse, Wait

Object = Mapping[str, Any]

# The CRD's rules use what CEL has since then.
OLDEST_KUBERNETES = (1, 29)
# The API server's Date has whole seconds; a look compares samples' times with the clock.
SKEW_WARN_SECONDS = 2.0
SKEW_FAIL_SECONDS = 15.0
APPLY_CRD = "kubectl apply --server-side -f k8s/crds"


def kubernetes(version: str) -> Finding:
    """Judge the API server's version."""
    match = re.match(r"v?(\d+)\.(\d+)", version)
    oldest = ".".join(str(part) for part in OLDEST_KUBERNETES)
    if match is None:
        return warn("kubernetes", f"says version '{version}'", f"Make sure that it is {oldest}")
    if (int(match[1]), int(match[2])) < OLDEST_KUBERNETES:
        return fail(
            "kubernetes", version, f"Upgrade it: ModelRollout's rules need {oldest} or newer"
        )
    return ok("kubernetes", version)


def rollout_crd(served: bool, found: Object | None, wanted: Object) -> Finding:
    """Judge the ModelRollout resource by the one that this version of Davy writes.

    Parameters
    ----------
    served : bool
        Whether the API server has the resource in the version that is wanted.
    found : mapping, optional
        Its CustomResourceDefinition; None when it may not be read.
    wanted : mapping
        That of this version.
    """
    check = "ModelRollout"
    if not served:
        return fail(check, "the cluster knows no davylamp.dev/v1alpha1 ModelRollout", APPLY_CRD)
    if found is None:
        return ok(
            check, "is served; whether it is of this version may not be read with these rights"
        )
    difference = _difference(_schemas(wanted), _schemas(found), "")
    if difference:
        return fail(check, f"is of another version of Davy: {difference}", APPLY_CRD)
    return ok(check, "is served, and of this version")


def _schemas(crd: Object) -> dict[str, Any]:
    return {item["name"]: item["schema"]["openAPIV3Schema"] for item in crd["spec"]["versions"]}


def _difference(wanted: Any, found: Any, path: str) -> str:
    """Return the first place where `found` lacks, adds or changes a field; empty if none."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in wanted:
            # The API server leaves out what is empty or false.
            if key not in found and wanted[key]:
                return f"it lacks {path}.{key}".replace(" .", " ")
        if path.endswith("properties") and (more := sorted(set(found) - set(wanted))):
            return f"it has {path}.{more[0]}".replace(" .", " ")
        return next(
            (
                said
                for key in wanted
                if key in found and (said := _difference(wanted[key], found[key], f"{path}.{key}"))
            ),
            "",
        )
    return "" if wanted == found else f"{path.lstrip('.')} differs"


def kserve(served: bool, crd: Object | None) -> Finding:
    """Judge whether KServe is there, and whether its CRD has canaries in Standard mode."""
    if not served:
        return fail("KServe", "the cluster knows no InferenceService", "Install KServe 0.21")
    if crd is None:
        return skip("KServe", "is there; its CRD may not be read with these rights")
    if takes_canary(crd):
        return ok("KServe", "its InferenceService has spec.canary")
    return warn(
        "KServe",
        "its InferenceService has no spec.canary: only Knative mode splits traffic",
        "Upgrade KServe to 0.21, its CRDs too, or use Knative mode",
    )


def service_mode(service: Object, crd: Object | None) -> Finding:
    """Judge whether one InferenceService can have a rollout."""
    name = f"{service['metadata'].get('namespace', '')}/{service['metadata']['name']}"
    check = f"InferenceService {name}"
    mode = mode_of(service, crd, "Auto")
    if isinstance(mode, Refuse):
        return fail(check, mode.message, mode.fix)
    if isinstance(mode, Wait):
        return warn(check, mode.reason, "See 'kubectl describe' and KServe's controller's log")
    if isvc.serving_version(service) is None:
        return fail(
            check,
            f"{mode} mode, but its predictor does not say which version it serves",
            f"Set spec.predictor.annotations['{isvc.VERSION_ANNOTATION}']",
        )
    return ok(check, f"{mode} mode, serves {isvc.serving_version(service)}")


def needs_gateway(services: Sequence[Object], default: str) -> bool:
    """Say whether anything is, or will be, in Standard mode."""
    modes = [mode_of(item, None, "Auto") for item in services]
    return Mode.STANDARD in modes or default in {"", "Standard", "RawDeployment"}


def kserve_configuration(config: Object | None, wanted: bool) -> tuple[Finding, str, str]:
    """Judge KServe's ConfigMap; return its default mode and its gateway, too, if it names them."""
    if config is None:
        said = "inferenceservice-config cannot be read: its mode and gateway are not known"
        return skip("KServe's configuration", said), "", ""
    deploy, ingress = _json(config, "deploy"), _json(config, "ingress")
    default = str(deploy.get("defaultDeploymentMode") or "")
    gateway = str(ingress.get("kserveIngressGateway") or "")
    if wanted and not ingress.get("enableGatewayApi"):
        return (
            fail(
                "KServe's configuration",
                "enableGatewayApi is off: Standard mode makes no HTTPRoute, and splits nothing",
                "Set ingress.enableGatewayApi to true in kserve/inferenceservice-config and "
                "restart its controller",
            ),
            default,
            gateway,
        )
    said = f"default mode {default or 'not named'}, gateway {gateway or 'not named'}"
    return ok("KServe's configuration", said), default, gateway


def _json(config: Object, key: str) -> dict[str, Any]:
    try:
        found = json.loads((config.get("data") or {}).get(key) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def gateway(served: bool, needed: bool, gateways: Sequence[Object] | None, named: str) -> Finding:
    """Judge the Gateway API, and the gateway that KServe is set to use."""
    if not served:
        if not needed:
            return skip("gateway", "there is no Gateway API; Knative mode needs none")
        return fail(
            "gateway",
            "there is no Gateway API: Standard mode splits no traffic without",
            "Install its CRDs and a gateway, and set enableGatewayApi in KServe's configuration",
        )
    if gateways is None:
        return skip("gateway", "HTTPRoute is served; Gateways may not be read with these rights")
    return _programmed({_place(item): _condition(item, "Programmed") for item in gateways}, named)


def _programmed(states: Mapping[str, str], named: str) -> Finding:
    if named and named not in states:
        return fail(
            "gateway",
            f"KServe's configuration names {named}, which does not exist",
            "Create it, or correct ingress.kserveIngressGateway",
        )
    asked = {named: states[named]} if named else states
    if "True" in asked.values():
        ready = ", ".join(sorted(place for place, state in asked.items() if state == "True"))
        return ok("gateway", f"programmed: {ready}")
    if not states:
        return fail("gateway", "there is no Gateway", "Create one, of your gateway's class")
    return fail(
        "gateway",
        f"not programmed: {', '.join(sorted(asked))}",
        "See its conditions with 'kubectl describe gateway': a wrong class, or CRDs too old",
    )


def _place(item: Object) -> str:
    return f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


def _condition(item: Object, kind: str) -> str:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((str(c.get("status")) for c in conditions if c.get("type") == kind), "")


def permissions(role: Role, answers: Mapping[Right, bool | None], namespace: str) -> Finding:
    """Judge the rights that were asked for; None where the API server did not say."""
    check = f"rights of {'the operator' if role == Role.OPERATOR else 'yours'}"
    unknown = sum(allowed is None for allowed in answers.values())
    lacking = [right for right in sorted(answers) if answers[right] is False]
    missing = [str(right) for right in lacking]
    if lacking and STANDARD_ONLY.issuperset(lacking):
        return warn(
            check,
            f"lacks {', '.join(missing)}: no rollout in Standard mode",
            "Set the chart's mode to gateway, unless all is in Knative mode",
        )
    if missing:
        remedy = (
            "kubectl apply -k k8s/base/operator, or the chart's rbac.create"
            if role == Role.OPERATOR
            else f"Ask for a RoleBinding in {namespace}: the chart's ClusterRole davy-rollouts"
        )
        return fail(check, f"lacks {len(missing)}: {', '.join(missing)}", remedy)
    if unknown:
        return skip(check, f"{unknown} of {len(answers)} could not be asked for")
    return ok(check, f"{len(answers)} of {len(answers)}")


def skew(seconds: float, uncertainty: float, other: str) -> Finding:
    """Judge how far this clock is ahead of another's.

    Parameters
    ----------
    seconds : float
        This clock less the other.
    uncertainty : float
        Half the time that the answer took, and the whole second of an HTTP Date.
    """
    check, certain = f"clock beside {other}", abs(seconds) - uncertainty
    said = f"{seconds:+.1f} s (± {uncertainty:.1f} s)"
    remedy = "Synchronise both with NTP: a look reads samples by this clock"
    if certain > SKEW_FAIL_SECONDS:
        return fail(check, said, remedy)
    if certain > SKEW_WARN_SECONDS:
        return warn(check, said, remedy)
    return ok(check, said)


def operator(deployments: Sequence[Object] | None, holder: str, age: float | None) -> Finding:
    """Judge whether an operator is at work, by its Lease.

    Parameters
    ----------
    deployments : sequence of mapping, optional
        Those of an operator; None when they may not be read.
    holder : str
        Of the Lease, empty when nobody holds it.
    age : float, optional
        Seconds since it was renewed; None when there is no Lease.
    """
    check = "operator"
    if holder and age is not None and age < 60:
        return ok(check, f"{holder} leads, renewed {age:.0f} s ago")
    if deployments:
        ready = sum(
            int((item.get("status") or {}).get("readyReplicas") or 0) for item in deployments
        )
        return fail(
            check,
            f"is installed, {ready} pods ready, and none leads",
            "See 'kubectl logs' and 'kubectl describe pod' of davy-operator",
        )
    if deployments is None and age is None:
        return skip(check, "its Lease may not be read with these rights")
    return warn(
        check, "none leads: ModelRollouts are not carried out", "helm install davy helm/davy"
    )


def operator_keys(deployments: Sequence[Object]) -> Finding:
    """Judge whether the operator can read packages and check their signatures."""
    check = "packages and keys"
    environ = {name: value for item in deployments for name, value in environment(item).items()}
    if not environ.get("DAVY_OPERATOR_STORE"):
        return fail(
            check,
            "the operator has no package store: it begins no rollout",
            "Set the chart's packages.claim to the claim of the store",
        )
    if not environ.get("DAVY_OPERATOR_PUBLIC_KEY"):
        return warn(
            check,
            "the operator has no public key: the veto 'signature' stays active",
            "Set the chart's signing.publicKeySecret, or take that veto out of the spec",
        )
    return ok(check, "the operator has the store and a public key")


def licence(detectors: Sequence[Object]) -> Finding:
    """Say under which licence the engine of the installed detectors is."""
    engines = {environment(item).get("DAVY_DETECTOR_ENGINE", "alibi") for item in detectors}
    if not engines:
        return skip("licence", "no detector is installed")
    if engines == {"native"}:
        return ok("licence", "the detector's engine is native: no part is under another licence")
    return warn("licence", LICENCE, LICENCE_REMEDY)


def environment(workload: Object) -> dict[str, str]:
    """Return the variables of a workload's first container that have a value of their own."""
    containers = workload["spec"]["template"]["spec"]["containers"]
    return {
        item["name"]: str(item.get("value") or "from") for item in containers[0].get("env") or ()
    }
