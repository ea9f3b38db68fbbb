"""Sends a file as it is over STARTTLS, verifying the certificate.

send.py HOST PORT CERTIFICATE RECIPIENT FILE
"""

import smtplib
import ssl
import sys

host, port, certificate, recipient, name = sys.argv[1:]
with open(name, "rb") as file:
    message = file.read()
with smtplib.SMTP(host, int(port), timeout=60) as smtp:
    smtp.starttls(context=ssl.create_default_context(cafile=certificate))
    smtp.ehlo()
    assert smtp.has_extn("8bitmime") and smtp.has_extn("size"), smtp.esmtp_features
    smtp.mail("", ["BODY=8BITMIME", f"SIZE={len(message)}"])
    smtp.rcpt(recipient)
    code, text = smtp.data(message)
    assert code == 250, (code, text)
    print(text.decode())
