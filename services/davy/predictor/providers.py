"""Execution providers: which are asked for, with what options, and whether the runtime took them.

Belongs here: checking providers and their options, what the log and the metadata say of them.
Not here: the session (`davy.predictor.session`).

The runtime would rather go on than fail: it leaves out a provider whose libraries do not load,
takes no notice of options for the CPU, and replaces a provider that refuses its options by the CPU.
Whoever asked for a device is told instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from davy.core.errors import ConfigurationError

CPU_PROVIDER = "CPUExecutionProvider"
WHERE = "DAVY_PREDICTOR_PROVIDERS"
WHERE_OPTIONS = "DAVY_PREDICTOR_PROVIDER_OPTIONS"

# By provider, then by name; the runtime takes texts.
ProviderOptions = Mapping[str, Mapping[str, str]]


def wrong_options(providers: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> str:
    """Return why options cannot belong to the providers, empty when they can."""
    for name in options:
        if name not in providers:
            return f"'{name}' is none of 'providers', which are {', '.join(providers)}"
        if name == CPU_PROVIDER and options[name]:
            return f"'{name}' takes no options; 'threads' and 'arena' are settings of their own"
    return ""


def check_providers(asked: Iterable[str], available: Sequence[str]) -> None:
    """Hold execution providers against those that the runtime has.

    Raises
    ------
    ConfigurationError
        One is not available.
    """
    for name in asked:
        if name not in available:
            raise ConfigurationError(
                f"'{name}' is not available; this runtime has {', '.join(available)}",
                where=WHERE,
                fix="Install the runtime that brings it, or leave it out",
            )


def with_options(providers: Iterable[str], options: ProviderOptions) -> list[Any]:
    """Return the providers as the runtime takes them."""
    return [(name, dict(options[name])) if options.get(name) else name for name in providers]


def held(session: Any, asked: Sequence[str], options: ProviderOptions) -> Any:
    """Return the session, in which every provider and option that was asked for is there.

    Raises
    ------
    ConfigurationError
        A provider did not start, or says what options it has and one that was asked for is none.
    """
    missing = [name for name in asked if name not in session.get_providers()]
    if missing:
        # OpenVINO's says so, and no more, of a value that is none.
        given = ", and that its options are right" if options.get(missing[0]) else ""
        raise ConfigurationError(
            f"'{missing[0]}' did not start on this machine",
            where=WHERE,
            fix=f"See that its libraries and its device are there{given}, or leave it out",
        )
    told: ProviderOptions = session.get_provider_options()
    for name, chosen in options.items():
        has = told.get(name)
        unknown = [option for option in chosen if has and option not in has]
        if unknown:
            raise _refused(f"'{name}' has no option '{unknown[0]}'", told, options)
    return session


def blame(
    error: Exception, options: ProviderOptions, without: Callable[[], Any]
) -> ConfigurationError | None:
    """Return the error that blames the options, None when they are not to blame.

    Parameters
    ----------
    error : Exception
        What the runtime raised.
    options : mapping
        The options that it was given.
    without : callable
        Opens the model without them.
    """
    if not any(options.values()):
        return None
    try:
        session = without()
    except Exception:
        return None
    return _refused(
        f"the runtime refuses them: {str(error).strip()}", session.get_provider_options(), options
    )


def describe(session: Any, options: ProviderOptions) -> dict[str, str]:
    """Return what is said of the options: those asked for, as the provider has them if it tells."""
    told: ProviderOptions = session.get_provider_options()
    found = {
        name: {option: told.get(name, {}).get(option, value) for option, value in chosen.items()}
        for name, chosen in options.items()
        if chosen
    }
    return {"execution_provider_options": json.dumps(found, sort_keys=True)} if found else {}


def _refused(what: str, told: ProviderOptions, options: ProviderOptions) -> ConfigurationError:
    has = [f"{name} has {', '.join(sorted(told[name]))}" for name in options if told.get(name)]
    known = "; ".join(has) or "See the provider's page in the documentation of ONNX Runtime"
    return ConfigurationError(what, where=WHERE_OPTIONS, fix=known)
