# SPDX-License-Identifier: GPL-3.0-or-later
"""All services in one process: `python -m gandt_standalone`, the entry point of the demo image."""

from __future__ import annotations

import logging
import sys

from gandt.domain.errors import GandtError
from gandt.runtime.logs import configure_logging
from gandt_standalone.project import serve_project
from gandt_standalone.settings import Settings


def main() -> int:
    """Serves the project that the settings name; the exit code is 1 when it cannot start."""
    configure_logging()
    try:
        settings = Settings()
        configure_logging(settings.log_level, settings.log_format)
        config = settings.config_file or settings.project / "gandt.toml"
        return serve_project(settings.project, config_file=config if config.exists() else None)
    except GandtError as error:
        logging.getLogger("gandt").error(
            "could not start", extra={"reason": error.reason, "error": error.message, "fix": error.fix}
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
