"""Checks a client assertion as its receiver would, with PyJWT and cryptography.

entra.py CERTIFICATE AUDIENCE CLIENT < assertion; prints its header and claims as one JSON value each.
"""

import base64
import json
import sys

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes

certificate, audience, client = sys.argv[1:]
assertion = sys.stdin.read()
with open(certificate, "rb") as file:
    certificate = x509.load_pem_x509_certificate(file.read())

header = jwt.get_unverified_header(assertion)
algorithm, member, digest = {
    "PS256": ("PS256", "x5t#S256", hashes.SHA256()),
    "RS256": ("RS256", "x5t", hashes.SHA1()),
}[header["alg"]]
thumbprint = base64.urlsafe_b64encode(certificate.fingerprint(digest)).rstrip(b"=").decode()
assert header[member] == thumbprint, (header, thumbprint)
claims = jwt.decode(
    assertion,
    certificate.public_key(),
    algorithms=[algorithm],
    audience=audience,
    issuer=client,
    options={"require": ["aud", "exp", "iss", "jti", "nbf", "sub"]},
)
assert claims["sub"] == client, claims
assert claims["exp"] - claims["nbf"] <= 600, claims
print(json.dumps(header))
print(json.dumps(claims))
