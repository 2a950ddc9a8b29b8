"""Prometheus's HTTP API: one instant query and what it answers.

Belongs here: asking, and telling a result from everything else. Not here: which queries there are,
what a result means.
"""

from __future__ import annotations

from typing import Any

import httpx

from davy.core.errors import UnavailableError


def instant_query(
    http: httpx.Client, query: str, *, where: str, unreachable: str, refused: str
) -> list[dict[str, Any]]:
    """Return the series of an instant query, as they came.

    Parameters
    ----------
    http : httpx.Client
        Its base address is the server's.
    query : str
        PromQL.
    where : str
        Names the server in an error.
    unreachable, refused : str
        What to do where it does not answer, and where it refuses the query.

    Raises
    ------
    UnavailableError
        There is no answer, or one that is no result.

    Source: https://prometheus.io/docs/prometheus/latest/querying/api/
    """
    try:
        answer = http.post("/api/v1/query", data={"query": query})
        document = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise UnavailableError(
            f"Prometheus does not answer ({error})", where=where, fix=unreachable
        ) from None
    if not isinstance(document, dict):
        raise UnavailableError(
            "Prometheus answers in another language than its own", where=where, fix=unreachable
        )
    if document.get("status") != "success":
        reason = document.get("error", answer.reason_phrase)
        raise UnavailableError(f"Prometheus refuses the query: {reason}", where=where, fix=refused)
    data = document.get("data")
    result = data.get("result") if isinstance(data, dict) else None
    if not isinstance(result, list):
        raise UnavailableError("Prometheus answers without a result", where=where, fix=unreachable)
    return result
