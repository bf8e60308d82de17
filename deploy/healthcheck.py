"""Exit status 0 if the role in this container answers: a role with a metrics port there, else the gateway."""

import os
import sys
import urllib.request

metrics_port = os.environ.get("BUDGET_METRICS_PORT", "0")
if metrics_port != "0":
    url = f"http://127.0.0.1:{metrics_port}/metrics"
else:
    url = f"http://127.0.0.1:{os.environ.get('BUDGET_PORT', '8013')}/health/ready"
try:
    with urllib.request.urlopen(url, timeout=4):
        pass
except OSError as error:
    sys.exit(f"{url}: {error}")
