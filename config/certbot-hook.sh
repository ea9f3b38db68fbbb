#!/bin/sh
# Deploy hook for certbot and lego: copies a new certificate to where the service may read it, and has it taken into use.
# Either runs it after the first issue and every renewal and says where the files are: certbot in RENEWED_LINEAGE, lego in
# LEGO_HOOK_CERT_PATH and LEGO_HOOK_CERT_KEY_PATH (from version 5 on) or LEGO_CERT_PATH and LEGO_CERT_KEY_PATH (before).
set -eu
tls=/etc/daybook/tls
if [ -n "${RENEWED_LINEAGE:-}" ]; then
    certificate=$RENEWED_LINEAGE/fullchain.pem
    key=$RENEWED_LINEAGE/privkey.pem
else
    certificate=${LEGO_HOOK_CERT_PATH:-${LEGO_CERT_PATH:?is not set, nor is RENEWED_LINEAGE}}
    key=${LEGO_HOOK_CERT_KEY_PATH:-${LEGO_CERT_KEY_PATH:?is not set}}
fi
install -d -m 0750 -o root -g daybook "$tls"
# Both beside their places first, then moved into them whole: whoever reads meanwhile must not find half a file.
install -m 0640 -o root -g daybook "$certificate" "$tls/fullchain.pem.new"
# The key is the service's alone: it refuses one that its group can read.
install -m 0400 -o daybook -g daybook "$key" "$tls/privkey.pem.new"
mv -f "$tls/fullchain.pem.new" "$tls/fullchain.pem"
mv -f "$tls/privkey.pem.new" "$tls/privkey.pem"
# The service sees the change by itself, within seconds; told, it takes it at once. The first time it is not running yet.
systemctl reload daybook || true
