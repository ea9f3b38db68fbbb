"""Prints the SHA-256 of each message of an mbox as Python's mailbox module reads it, mboxrd quoting undone."""

import hashlib
import mailbox
import re
import sys

box = mailbox.mbox(sys.argv[1], create=False)
for key in sorted(box.iterkeys()):
    message = re.sub(rb"(?m)^>(>*From )", rb"\1", box.get_bytes(key))
    print(hashlib.sha256(message).hexdigest())
