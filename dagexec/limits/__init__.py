"""Limits for calls: how many at a time, how much in what time, and when to try again."""

from __future__ import annotations

from dagexec._errors import AdmissionTimeout, BreakerOpen, OversizeError, RateLimited
from dagexec.limits._limiter import Limiter, acquire
from dagexec.limits._permit import Permit
from dagexec.limits._rates import Rate

__all__ = [
    "AdmissionTimeout",
    "BreakerOpen",
    "Limiter",
    "OversizeError",
    "Permit",
    "Rate",
    "RateLimited",
    "acquire",
]
