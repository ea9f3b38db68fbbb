#!/usr/bin/env bash
# Runs the tests against real clients and under fault injection. Needs root, to install Debian packages.
# A missing client fails the run. DAYBOOK_LONG=1 runs the long forms, DAYBOOK_ROUNDS=n so many rounds of
# those that have rounds, and DAYBOOK_SEED=n others: what they draw follows from the seed, which they print.
set -euo pipefail
cd "$(dirname "$0")/.."

# libnet-ssleay-perl is what gives swaks its TLS; setpriv, unshare and prlimit are in util-linux, which is always there; systemd is for
# systemd-analyze, systemd-sysusers and systemd-tmpfiles, and need not be running; prometheus brings promtool; the libraries are for Exim.
packages=(age postfix libidn12 libgnutls-dane0 swaks libnet-ssleay-perl fetchmail getmail6 mpop isync offlineimap3 python3 python3-cryptography python3-jwt strace dovecot-imapd dovecot-pop3d systemd logrotate curl openssl iproute2 prometheus e2fsprogs faketime slapd ldap-utils samba-ad-dc samba-ad-provision samba-common-bin samba-dsdb-modules samba-vfs-modules ldb-tools)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Its service is not wanted: neither started now nor at the next boot.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
    for service in prometheus postfix dovecot slapd samba-ad-dc; do
        if [[ " ${missing[*]} " == *" $service"* ]] && command -v systemctl > /dev/null; then
            systemctl disable --quiet "$service" || true
        fi
    done
fi
# Exim's package cannot be installed beside Postfix: it is only unpacked.
exim=$(realpath -m "${CARGO_TARGET_DIR:-target}/exim")
export DAYBOOK_EXIM="$exim/usr/sbin/exim4"
if [ ! -x "$DAYBOOK_EXIM" ]; then
    mkdir -p "$exim"
    (cd "$exim" && { apt-get download -qq exim4-daemon-light || { apt-get update -qq && apt-get download -qq exim4-daemon-light; }; })
    dpkg-deb -x "$exim"/exim4-daemon-light_*.deb "$exim"
fi

# The server under test is the optimised one: crash and load tests should meet it as users do. Their figures are shown.
cargo test --locked --release --features real --test real --test dovecot --test puller --test cut_sessions --test durability --test memory --test million --test large_tenant --test freeing_million --test departures --test logs --test readme --test senders --test slow_clients -- --show-output
