"""The gateway's composition root: settings in, a FastAPI app out.

``Gateway`` holds the parts of one process and starts and stops them in order; ``create_app`` puts them behind routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from pulsetrail import __version__
from pulsetrail.addresses import networks
from pulsetrail.errors import UsageError
from pulsetrail.identity import Deployment
from pulsetrail.journal import Journal
from pulsetrail.lifecycle import Limits
from pulsetrail.log import Log
from pulsetrail.metrics import PipelineMetrics
from pulsetrail.metrics_snapshot import SnapshotReader
from pulsetrail.rates import RateLimiter
from pulsetrail.settings import Settings
from pulsetrail.shipper import Shipper
from pulsetrail_service.auth import Authenticator, Forbidden, Unauthorized
from pulsetrail_service.breaker import Breaker
from pulsetrail_service.endpoint import UpdatesEndpoint
from pulsetrail_service.handshake import Admission, ceiling_of
from pulsetrail_service.hub import Hub
from pulsetrail_service.live_figures import publish_live_figures
from pulsetrail_service.metrics_routes import Targets, metrics_routes
from pulsetrail_service.node import Lease
from pulsetrail_service.recorder import Recorder
from pulsetrail_service.rejections import Rejections
from pulsetrail_service.routes import Publishing, health_routes, update_routes
from pulsetrail_service.updates import Broadcaster, UpdateSource

logger = logging.getLogger("pulsetrail.gateway")
