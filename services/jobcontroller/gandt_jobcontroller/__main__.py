# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m gandt_jobcontroller`: serves until a signal."""

from __future__ import annotations

import sys

from gandt.runtime.server import main
from gandt_jobcontroller.bootstrap import bootstrap
from gandt_jobcontroller.settings import Settings

if __name__ == "__main__":
    sys.exit(main(Settings, bootstrap))
