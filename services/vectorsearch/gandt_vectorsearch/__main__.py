# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the vector search service: `python -m gandt_vectorsearch`."""

import sys

from gandt.runtime.server import main
from gandt_vectorsearch.bootstrap import bootstrap
from gandt_vectorsearch.settings import Settings

if __name__ == "__main__":
    sys.exit(main(Settings, bootstrap))
