"""Writes each file of a folder anew as a client does that reads messages with Python's email package and writes them again.

rewritten.py getmail-pop3|getmail-imap|offlineimap FOLDER
"""

import os
import sys
from email import policy
from email.parser import BytesParser

client, folder = sys.argv[1:]


def getmail(octets):
    """By its own code. Over POP3 it is given lines, over IMAP all in one."""
    from getmailcore.message import Message

    if client == "getmail-pop3":
        message = Message(fromlines=octets.split(b"\r\n"))
    else:
        message = Message(fromstring=octets)
        message.add_header("X-getmail-retrieved-from-mailbox", "INBOX")
    return message.flatten(False, False)


def offlineimap(octets):
    """With the policies of its folder/Base.py: one to read what comes by IMAP, one to write into a Maildir."""
    lf = policy.default.clone(cte_type="8bit", utf8=True, refold_source="none")
    return BytesParser(policy=lf.clone(linesep="\r\n")).parsebytes(octets).as_bytes(policy=lf)


rewrite = offlineimap if client == "offlineimap" else getmail
for name in os.listdir(folder):
    path = os.path.join(folder, name)
    with open(path, "rb") as file:
        octets = file.read()
    with open(path, "wb") as file:
        file.write(rewrite(octets))
