# Built in two stages; runs as an ordinary user, with a read-only root and no capability:
#   docker build -t daybook .
#   docker run --read-only --cap-drop=ALL --security-opt=no-new-privileges --stop-timeout=90 \
#     -v daybook:/var/lib/daybook -v ./daybook:/etc/daybook:ro \
#     -p 25:2525 -p 110:2110 -p 995:2995 -p 143:2143 -p 993:2993 -p 127.0.0.1:8450:8450 daybook
# High ports inside, published as low ones. Configuration: /etc/daybook/daybook.toml, see config/container.toml, with
# users.toml beside it. Everything kept: the volume /var/lib/daybook, which user 65532 must be able to write to; nothing else is
# written, /tmp neither. Log: standard error. Commands: docker exec CONTAINER daybook mailbox list

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
# Cargo wants every benchmark that Cargo.toml names to be there; the demonstration is compiled in with its messages.
COPY benches benches
COPY corpus corpus
RUN cargo build --locked --profile dist --bin daybook

FROM debian:bookworm-slim
# The label names Daybook's own licence. The root certificates built into it are under another: README.md, in the image below, says so.
LABEL org.opencontainers.image.title="Daybook" \
      org.opencontainers.image.description="Journal report gateway: SMTP in, sealed and durable, POP3 and IMAP out" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
# Root certificates: to know the relay that alerts are sent by.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 65532 daybook \
    && useradd --uid 65532 --gid 65532 --home-dir /var/lib/daybook --no-create-home --shell /usr/sbin/nologin daybook \
    && install --directory --mode=0700 --owner=65532 --group=65532 /var/lib/daybook
COPY --from=build /build/target/dist/daybook /usr/local/bin/daybook
COPY config/container.toml /etc/daybook/daybook.toml
COPY README.md LICENSE-MIT LICENSE-APACHE /usr/share/doc/daybook/
# By number, so that an orchestrator can see that it is not root.
USER 65532:65532
WORKDIR /var/lib/daybook
VOLUME /var/lib/daybook
EXPOSE 2525 2110 2995 2143 2993 8450
STOPSIGNAL SIGTERM
# A large store may take a while to open.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["/usr/local/bin/daybook", "--config", "/etc/daybook/daybook.toml", "readyz"]
ENTRYPOINT ["/usr/local/bin/daybook", "--config", "/etc/daybook/daybook.toml"]
CMD ["serve"]
