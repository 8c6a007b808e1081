"""Every setting of Semel, one file per topic, each with its unit, its default and its reason.

Only these files read the environment. Relations between settings are checked in config/checks.py.
"""

from pathlib import Path

from config import env as _env
from config.settings.database import *
from config.settings.web import *
from config.settings.idempotency import *
from config.settings.jobs import *
from config.settings.operations import *
from config.settings.streams import *
from config.settings.broker import *
from config.settings.celery import *
from config.settings.observability import *
from foundation.processes import Process

# For code that reads them through django.conf.settings.
BASE_DIR: Path = _env.BASE_DIR
PROCESS: Process = _env.PROCESS
