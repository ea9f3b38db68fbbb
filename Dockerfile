# Built in two stages; runs as an ordinary user, also with a read-only root. High ports inside: publish them as
# 25, 110 and 995. Configuration: /etc/daybook/daybook.toml. Everything kept: the volume /var/lib/daybook.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
COPY corpus corpus
RUN cargo build --locked --profile dist --bin daybook

FROM debian:bookworm-slim
RUN useradd --system --uid 65532 --home-dir /var/lib/daybook --create-home --shell /usr/sbin/nologin daybook \
    && chmod 0700 /var/lib/daybook
COPY --from=build /build/target/dist/daybook /usr/local/bin/daybook
COPY config/container.toml /etc/daybook/daybook.toml
USER daybook
VOLUME /var/lib/daybook
EXPOSE 2525 2110 2995
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/usr/local/bin/daybook", "--config", "/etc/daybook/daybook.toml", "readyz"]
ENTRYPOINT ["/usr/local/bin/daybook", "--config", "/etc/daybook/daybook.toml"]
CMD ["serve"]
