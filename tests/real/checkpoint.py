"""Checks signed checkpoints with nothing of Daybook: Python for the JSON, openssl for the signature.

checkpoint.py PUBLIC_KEY.pem < checkpoints.jsonl   prints the number of each group, and fails at the first that is forged.
"""

import json
import subprocess
import sys
import tempfile

for line in sys.stdin:
    said = json.loads(line)
    text = json.dumps(said["checkpoint"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    with tempfile.NamedTemporaryFile() as octets, tempfile.NamedTemporaryFile() as signature:
        octets.write(b"daybook checkpoint\n" + text.encode())
        signature.write(bytes.fromhex(said["signature"]))
        octets.flush()
        signature.flush()
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", sys.argv[1], "-rawin"]
        subprocess.run(command + ["-in", octets.name, "-sigfile", signature.name], check=True, capture_output=True)
    print(said["checkpoint"]["sequence"])
