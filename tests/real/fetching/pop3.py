"""Fetches every message by poplib, verifying the certificate, into files; deletes each or not.

pop3.py HOST PORT CERTIFICATE LOGIN PASSWORD upgrade|implicit keep|delete FOLDER
"""

import os
import poplib
import ssl
import sys

host, port, certificate, login, password, tls, then, folder = sys.argv[1:]
# Lines of mail may be longer than it expects of an honest server.
poplib._MAXLINE = 1 << 20
context = ssl.create_default_context(cafile=certificate)
if tls == "upgrade":
    pop = poplib.POP3(host, int(port), timeout=60)
    pop.stls(context)
else:
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
    with open(os.path.join(folder, str(number)), "xb") as file:
        file.write(message)
    if then == "delete":
        pop.dele(number)
assert octets == total, f"STAT says {total}, RETR sent {octets}"
pop.quit()
