"""Structured logs: one event a line, with the ids of the request and the rollout at work.

Belongs here: how structlog is set up, once a process. Not here: what is logged.

Bind ids with ``structlog.contextvars.bound_contextvars(request_id=..., rollout=...)``; every
line that is written inside carries them.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal, TextIO

import structlog

LogFormat = Literal["json", "console"]


def configure(
    *, level: str = "INFO", style: LogFormat = "json", stream: TextIO | None = None
) -> None:
    """Set up structlog for this process.

    Parameters
    ----------
    level : str
        Lowest level that is written, by its standard name.
    style : {"json", "console"}
        One JSON object a line, or text for a person.
    stream : text file, optional
        Where lines go; standard error when absent.
    """
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
        ),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(part: str) -> structlog.typing.FilteringBoundLogger:
    """Return a logger whose lines carry ``part``, the piece of Davy that writes them."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind(part=part)
    return logger
