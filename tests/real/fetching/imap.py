"""Fetches every message of INBOX by imaplib, verifying the certificate, into files; deletes each or not.

imap.py HOST PORT CERTIFICATE LOGIN PASSWORD upgrade|implicit keep|delete FOLDER
"""

import imaplib
import os
import re
import ssl
import sys

host, port, certificate, login, password, tls, then, folder = sys.argv[1:]
context = ssl.create_default_context(cafile=certificate)


def ok(answer):
    """What a command that worked was answered."""
    assert answer[0] == "OK", answer
    return answer[1]


if tls == "upgrade":
    imap = imaplib.IMAP4(host, int(port), timeout=60)
    ok(imap.starttls(context))
    ok(imap.login(login, password))
else:
    imap = imaplib.IMAP4_SSL(host, int(port), timeout=60, ssl_context=context)
    # Without an initial response, and with the empty challenge decoded.
    ok(imap.authenticate("PLAIN", lambda challenge: f"\0{login}\0{password}".encode() if challenge == b"" else None))
count = int(ok(imap.select("INBOX", readonly=then == "keep"))[0])
uids = ok(imap.uid("SEARCH", None, "ALL"))[0].split()
assert len(uids) == count, (uids, count)
for uid in uids:
    said, message = ok(imap.uid("FETCH", uid.decode(), "(RFC822.SIZE BODY.PEEK[])"))[0]
    size = int(re.search(rb"RFC822\.SIZE (\d+)", said)[1])
    assert size == len(message), f"UID {uid}: RFC822.SIZE is {size}, BODY[] is {len(message)}"
    with open(os.path.join(folder, uid.decode()), "xb") as file:
        file.write(message)
if then == "delete" and uids:
    ok(imap.uid("STORE", "1:*", "+FLAGS", r"(\Deleted)"))
    ok(imap.expunge())
if then == "delete":
    ok(imap.close())
ok(imap.select("INBOX"))
imap.logout()
