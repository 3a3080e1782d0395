# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m gandt_aggregation`: serves until a signal."""

from __future__ import annotations

import sys

from gandt.runtime.server import main
from gandt_aggregation.bootstrap import bootstrap
from gandt_aggregation.settings import Settings

if __name__ == "__main__":
    sys.exit(main(Settings, bootstrap))
