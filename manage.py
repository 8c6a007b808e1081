#!/usr/bin/env python
"""Django's command line for Semel: migrate, check, create_tenant, sweep, purge."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.setdefault("SEMEL_PROCESS", "manage")
    execute_from_command_line(sys.argv)
