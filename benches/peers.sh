#!/usr/bin/env bash
# Daybook beside its peers: acknowledged journal reports a second, plain and by STARTTLS, with 1, 16 and 64 connections, all in
# one run on one disk. Postfix stores in Maildirs (queue file and Maildir file synced, as it comes); smtp-sink, of the same
# package, stores nothing. Needs root and the Debian packages postfix and openssl; touches neither the system's Postfix nor its
# configuration, and leaves nothing running.
#
#   benches/peers.sh JLOAD [DAYBOOK]     the load generator, and the program [default: target/release/daybook]
#
# COUNT (2000) reports for each figure; ROUNDS (3), of which the median is shown; SIZE (75000) octets. TMPDIR is the disk in question.
set -euo pipefail
cd "$(dirname "$0")/.."
jload=$(realpath "${1:-${JLOAD:?the load generator: benches/peers.sh JLOAD}}")
daybook=$(realpath "${2:-${CARGO_TARGET_DIR:-target}/release/daybook}")
count=${COUNT:-2000} rounds=${ROUNDS:-3} size=${SIZE:-75000}
command -v postfix smtp-sink openssl > /dev/null || { echo "needs the packages postfix and openssl" >&2; exit 3; }

dir=$(mktemp -d)
chmod 755 "$dir"
pids=()
stop() {
    postfix -c "$dir/etc" abort > /dev/null 2>&1 || true
    for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
    wait
    rm -rf "$dir"
}
trap stop EXIT

port() { # a free one, below those given to outgoing connections
    local port
    while port=$((12000 + RANDOM % 20000)); (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do :; done
    echo "$port"
}
until_answered() {
    for _ in $(seq 200); do
        (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null && return
        sleep 0.05
    done
    echo "nobody answers at port $1" >&2
    exit 3
}

# Daybook, with the users that the load generator writes of.
for n in $(seq 0 49); do
    printf '[[user]]\nid = "user%s"\naddresses = ["user%s@example.com"]\n' "$n" "$n"
done > "$dir/users.toml"
smtp=$(port)
cat > "$dir/daybook.toml" << END
hostname = "localhost"
domains = ["gw.test"]
data_dir = "data"
[smtp]
listen = ["127.0.0.1:$smtp"]
[pop3]
listen = []
listen_tls = ["127.0.0.1:0"]
[imap]
listen = []
listen_tls = []
[http]
listen = "off"
[log]
level = "warn"
[[directory]]
kind = "file"
path = "users.toml"
END
"$daybook" --config "$dir/daybook.toml" serve 2> "$dir/daybook.log" &
pids+=($!)
until_answered "$smtp"
made=$("$daybook" --config "$dir/daybook.toml" mailbox create --name bench --json)
address=$(sed 's/.*"address":"\([^"]*\)".*/\1/' <<< "$made")

# Postfix, out of a directory of its own, delivering by virtual(8) into Maildirs.
mkdir "$dir/etc" "$dir/queue" "$dir/lib" "$dir/mail"
chown postfix "$dir/lib"
chown nobody "$dir/mail"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -keyout "$dir/key.pem" -out "$dir/cert.pem" 2> /dev/null
relay=$(port)
cat > "$dir/etc/main.cf" << END
compatibility_level = 3.7
queue_directory = $dir/queue
data_directory = $dir/lib
maillog_file = $dir/postfix.log
maillog_file_prefixes = $dir
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = localhost
mynetworks = 127.0.0.0/8
mydestination =
alias_maps =
alias_database =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_tls_security_level = may
smtpd_tls_cert_file = $dir/cert.pem
smtpd_tls_key_file = $dir/key.pem
smtpd_client_connection_count_limit = 0
virtual_mailbox_domains = gw.test
virtual_mailbox_base = $dir/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:$(id -u nobody)
virtual_gid_maps = static:$(id -g nobody)
END
# The Debian package's own services, with our port and without chroot.
sed -E "s/^smtp( +inet)/127.0.0.1:$relay\1/; s/^([^ #]+ +[a-z-]+ +[^ ]+ +[^ ]+ +)y/\1n/" /etc/postfix/master.cf |
    grep -E '^(127|pickup|cleanup|qmgr|tlsmgr|rewrite|bounce|defer|trace|flush|proxymap|showq|error|retry|virtual|anvil|postlog) |^127' > "$dir/etc/master.cf"
postfix -c "$dir/etc" start-fg > "$dir/postfix.out" 2>&1 &
until_answered "$relay"

sink=$(port)
smtp-sink -u nobody "127.0.0.1:$sink" 1024 > /dev/null 2>&1 &
pids+=($!)
until_answered "$sink"

figure() { sed "s/.*\"$1\":\([0-9.]*\).*/\1/"; }
# One run; prints "a_second p50 p99". Fails when a report was not taken.
run() { # target port, connections, further options
    local to=$address said
    said=$("$jload" --addr "127.0.0.1:$1" --rcpt "$to" --count "$count" --conns "$2" --size "$size" --seed "s$RANDOM$RANDOM" "${@:3}") ||
        { echo "$said" >&2; exit 1; }
    echo "$(figure msg_s <<< "$said") $(figure p50_ms <<< "$said") $(figure p99_ms <<< "$said")"
}
settle() { # until Postfix has delivered, so that it works for nobody else's figure
    while postqueue -c "$dir/etc" -j 2> /dev/null | grep -q .; do sleep 0.2; done
    rm -rf "$dir/mail/box"
}
median() { sort -n | sed -n "$(((rounds + 1) / 2))p"; }

echo "reports of $size octets, $count a run, median of $rounds; $(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg), $("$daybook" --version)"
# Warm.
count_before=$count count=300
run "$smtp" 8 > /dev/null && run "$relay" 8 > /dev/null && run "$sink" 8 > /dev/null
count=$count_before
settle
row='| %-8s | %5s | %-9s | %7s | %8s | %8s |\n'
printf "$row" way conns peer a_second p50_ms p99_ms
printf "$row" --- --- --- --- --- ---
ratios=()
for way in plain starttls; do
    options=()
    [ $way = plain ] || options=(--starttls)
    for connections in 1 16 64; do
        rm -f "$dir"/figures-*
        for _ in $(seq "$rounds"); do
            run "$smtp" "$connections" "${options[@]}" >> "$dir/figures-daybook"
            run "$relay" "$connections" "${options[@]}" >> "$dir/figures-postfix"
            settle
            # It speaks no TLS.
            [ $way = starttls ] || run "$sink" "$connections" >> "$dir/figures-smtp-sink"
        done
        for peer in daybook postfix smtp-sink; do
            [ -e "$dir/figures-$peer" ] || continue
            read -r second p50 p99 < <(median < "$dir/figures-$peer")
            printf "$row" $way $connections $peer "$second" "$p50" "$p99"
            [ $peer = daybook ] && ours=$second ||
                ratios+=("$(printf '%-8s %2s connections: daybook / %-9s %s' $way $connections $peer "$(awk "BEGIN { printf \"%.2f\", $ours / $second }")")")
        done
    done
done
printf '%s\n' '' "${ratios[@]}"
echo "load at the end $(cut -d' ' -f1-3 /proc/loadavg); Daybook's peak memory $(awk '/VmHWM/ { print int($2 / 1024) " MB" }' "/proc/${pids[0]}/status")"
