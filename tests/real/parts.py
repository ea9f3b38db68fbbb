"""Prints the parts of messages as Python's email package finds them.

parts.py FILE...

One JSON object a line, in the order of the files: {"defects": n, "root": part}, or {"failed": why} where the package could not; a part is {"kind": "leaf"|"multipart"|"message",
"body": SHA-256 or null, "parts": [part]}. The body is that of a leaf as it stands in the message; null where the package keeps it
only taken apart.
"""

import hashlib
import json
import sys
from email import policy
from email.parser import BytesParser


# Deeper messages are beyond our own limit, and beyond what readers of JSON take.
DEPTH_MAX = 50


def part(entity, depth=0):
    if depth > DEPTH_MAX:
        raise ValueError("too deep")
    kind, body, parts = "leaf", None, []
    inner = entity.get_payload()
    if entity.get_content_maintype() == "multipart" and entity.is_multipart():
        kind = "multipart"
        parts = [part(child, depth + 1) for child in inner]
    elif entity.get_content_type() in ("message/rfc822", "message/global") and entity.is_multipart():
        # It looks into an encoded message without decoding it.
        if str(entity.get("content-transfer-encoding", "7bit")).lower() in ("7bit", "8bit", "binary"):
            kind = "message"
            parts = [part(inner[0], depth + 1)]
    elif isinstance(inner, str):
        # What get_payload() gives has been through the charset.
        body = hashlib.sha256(entity._payload.encode("ascii", "surrogateescape")).hexdigest()
    return {"kind": kind, "body": body, "parts": parts}


def defects(entity):
    own = len(entity.defects)
    return own + sum(defects(child) for child in entity.get_payload()) if entity.is_multipart() else own


for name in sys.argv[1:]:
    with open(name, "rb") as file:
        octets = file.read()
    try:
        # From octets, not from a file: the latter would translate line ends.
        message = BytesParser(policy=policy.default).parsebytes(octets)
        print(json.dumps({"defects": defects(message), "root": part(message)}))
    except Exception as error:
        print(json.dumps({"failed": repr(error)[:200]}))
