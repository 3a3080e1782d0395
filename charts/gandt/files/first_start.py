# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a project's gandt.toml with the labeling service's keys, once; a later start finds it and changes nothing.

The labeling service listens on the pod's address here and asks for signed calls; the job controller beside it signs.
Usage: first_start.py /var/lib/gandt/gandt.toml
"""

import os
import secrets
import sys
from pathlib import Path

path = Path(sys.argv[1])
if path.exists():
    print(f"{path} is there, its keys are kept")
    sys.exit(0)
key = secrets.token_urlsafe(32)
text = "".join(
    f'[{section}]\naccess_key_id = "gandt"\nsecret_access_key = "{key}"\n\n' for section in ("labeling", "jobcontroller")
)
temporary = path.with_suffix(".tmp")
with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
temporary.replace(path)  # a kill in between leaves no half of it
print(f"{path} is written")
