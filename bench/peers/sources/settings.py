"""For the Python peers: settings, the key, and the sliding window's script."""

import json
import os
from pathlib import Path

UPSTREAM = ("127.0.0.1", int(os.environ["UPSTREAM_PORT"]))
PORT = int(os.environ["PORT"])
REDIS_URL = os.environ["REDIS_URL"]
CLIENT = os.environ["CLIENT"]
ORIGIN = os.environ["ORIGIN"]
LIMITS: dict[str, tuple[int, int]] = json.loads(os.environ["LIMITS"])
SECRET = Path(os.environ["SECRET_FILE"]).read_bytes()
WINDOW = Path(__file__).with_name("window.lua").read_text()
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'",
}
