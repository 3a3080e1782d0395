# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the selection service: `python -m gandt_selection`."""

import sys

from gandt.runtime.server import main
from gandt_selection.bootstrap import bootstrap
from gandt_selection.settings import Settings

if __name__ == "__main__":
    sys.exit(main(Settings, bootstrap))
