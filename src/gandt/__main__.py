# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m gandt` is `gandt`."""

import sys

from gandt.cli.main import main

sys.exit(main())
