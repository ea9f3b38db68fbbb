#!/bin/sh
# Certbot's deploy hook: copies a new certificate to where the service may read it, and has it taken into use.
# Certbot runs it after the first issue and every renewal, with RENEWED_LINEAGE set.
set -eu
tls=/etc/daybook/tls
install -d -m 0750 -o root -g daybook "$tls"
for file in fullchain.pem privkey.pem; do
    # Moved into place whole: a reload at the wrong moment must not read half a file.
    install -m 0640 -o root -g daybook "$RENEWED_LINEAGE/$file" "$tls/$file.new"
    mv -f "$tls/$file.new" "$tls/$file"
done
# The first time the service is not running yet.
systemctl reload daybook || true
