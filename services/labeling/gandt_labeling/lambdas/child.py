# SPDX-License-Identifier: GPL-3.0-or-later
"""The process of one Lambda handler: JSON events on stdin, one JSON answer a line on stdout, until stdin ends.

python -m gandt_labeling.lambdas.child gandt_lambdas.pre_annotation:lambda_handler
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback


def main(target: str) -> int:
    """Serve one handler, `module:function`."""
    # A Ctrl-C in the terminal reaches the whole group; the service ends its handlers itself, after its last batch.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The handler may print: what it prints goes to the log and not between our answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    module, _, function = target.partition(":")
    handler = None
    for line in sys.stdin.buffer:
        try:
            if handler is None:
                handler = getattr(importlib.import_module(module), function)
            answer = json.dumps({"result": handler(json.loads(line), None)})
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its answer
            traceback.print_exc()
            answer = json.dumps({"error": f"{type(error).__name__}: {error}"})
        answers.write(answer.encode() + b"\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
