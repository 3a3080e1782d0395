# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the embedding service: `python -m gandt_embedding`."""

from gandt.runtime.server import main
from gandt_embedding.bootstrap import bootstrap
from gandt_embedding.settings import Settings

if __name__ == "__main__":
    raise SystemExit(main(Settings, bootstrap))
