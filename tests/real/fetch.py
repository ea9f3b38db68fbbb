"""Fetches every message over POP3S, verifying the certificate; prints the SHA-256 of each.

fetch.py HOST PORT CERTIFICATE LOGIN PASSWORD
"""

import hashlib
import poplib
import ssl
import sys

host, port, certificate, login, password = sys.argv[1:]
context = ssl.create_default_context(cafile=certificate)
pop = poplib.POP3_SSL(host, int(port), timeout=60, context=context)
pop.user(login)
pop.pass_(password)
count, total = pop.stat()
octets = 0
for number in range(1, count + 1):
    _, lines, _ = pop.retr(number)
    message = b"".join(line + b"\r\n" for line in lines)
    size = int(pop.list(number).split()[2])
    assert size == len(message), f"message {number}: LIST says {size}, RETR sent {len(message)}"
    octets += size
    print(hashlib.sha256(message).hexdigest())
assert octets == total, f"STAT says {total}, RETR sent {octets}"
pop.quit()
