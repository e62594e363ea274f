# All images of the deployment; docker-compose.yml names the stage of each service. Needs BuildKit. Builds reach the registries of
# cargo and npm, and Debian's for the image of the load tests, nothing else.

# ---- Rust ----

FROM rust:1.95-slim-bookworm AS sources
WORKDIR /src
COPY . .

FROM sources AS binaries
# The registry's cache is locked because two builds that unpack into it at once would spoil it.
RUN --mount=type=cache,id=oauthing-registry,sharing=locked,target=/usr/local/cargo/registry \
    --mount=type=cache,id=oauthing-git,sharing=locked,target=/usr/local/cargo/git \
    --mount=type=cache,id=oauthing-target,sharing=locked,target=/src/target \
    cargo build --release --locked -p didp -p ignite -p factory -p device -p tpa -p demo -p loadtest --bins --example seed \
    && mkdir -p /out/examples \
    && cp target/release/didp target/release/ignite target/release/factory target/release/device target/release/tpa \
        target/release/demo target/release/loadtest /out/ \
    && cp target/release/examples/seed /out/examples/

FROM sources AS static-pcm
# With a target named, the flag holds for the program alone and not for the build scripts.
RUN --mount=type=cache,id=oauthing-registry,sharing=locked,target=/usr/local/cargo/registry \
    --mount=type=cache,id=oauthing-git,sharing=locked,target=/usr/local/cargo/git \
    --mount=type=cache,id=oauthing-target-static,sharing=locked,target=/src/target \
    host="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS='-C target-feature=+crt-static' cargo build --profile pcm --locked -p pcm --bin pcm --target "$host" \
    && mkdir /out \
    && cp "target/$host/pcm/pcm" /out/

# ---- npm ----

FROM node:20-bookworm-slim AS idp-modules
WORKDIR /idp
COPY samples/idp/package.json samples/idp/package-lock.json ./
RUN --mount=type=cache,id=oauthing-npm,target=/root/.npm npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:20-bookworm-slim AS tpa-modules
WORKDIR /web
COPY samples/tpa/web/package.json samples/tpa/web/package-lock.json ./
RUN --mount=type=cache,id=oauthing-npm,target=/root/.npm npm ci --omit=dev --ignore-scripts --no-audit --no-fund

# ---- services ----

# A user of its own for each, and a state directory that a new volume takes its owner from.
FROM debian:bookworm-slim AS base
WORKDIR /

FROM base AS didp
RUN groupadd -g 10001 didp && useradd --no-log-init -u 10001 -g 10001 -M -s /usr/sbin/nologin didp \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/oauthing
COPY --from=binaries /out/didp /usr/local/bin/
COPY --chmod=0644 docker/didp.toml /etc/oauthing/
USER 10001:10001
ENTRYPOINT ["didp"]
CMD ["serve", "--config", "/etc/oauthing/didp.toml"]

FROM base AS ignite
RUN groupadd -g 10002 ignite && useradd --no-log-init -u 10002 -g 10002 -M -s /usr/sbin/nologin ignite
COPY --from=binaries /out/ignite /usr/local/bin/
COPY --chmod=0644 docker/ignite.toml /etc/oauthing/
USER 10002:10002
ENTRYPOINT ["ignite"]
CMD ["serve", "--config", "/etc/oauthing/ignite.toml"]

FROM base AS factory
RUN groupadd -g 10004 factory && useradd --no-log-init -u 10004 -g 10004 -M -s /usr/sbin/nologin factory \
    && install -d -o 10004 -g 10004 -m 0700 /var/lib/oauthing
COPY --from=binaries /out/factory /usr/local/bin/
COPY --chmod=0644 docker/factory.toml /etc/oauthing/
USER 10004:10004
ENTRYPOINT ["factory"]
CMD ["serve", "--config", "/etc/oauthing/factory.toml"]

FROM base AS device
RUN groupadd -g 10005 device && useradd --no-log-init -u 10005 -g 10005 -M -s /usr/sbin/nologin device \
    && install -d -o 10005 -g 10005 -m 0700 /var/lib/oauthing
COPY --from=binaries /out/device /usr/local/bin/
COPY --chmod=0644 docker/device.toml /etc/oauthing/
USER 10005:10005
ENTRYPOINT ["device"]
CMD ["panel", "--config", "/etc/oauthing/device.toml"]

FROM base AS tpa
RUN groupadd -g 10006 tpa && useradd --no-log-init -u 10006 -g 10006 -M -s /usr/sbin/nologin tpa \
    && install -d -o 10006 -g 10006 -m 0700 /var/lib/oauthing
COPY --from=binaries /out/tpa /usr/local/bin/
COPY --from=tpa-modules /web/node_modules/mqtt/LICENSE.md /web/node_modules/mqtt/dist/mqtt.esm.js /usr/share/tpa/web/node_modules/mqtt/dist/
COPY --chmod=0644 docker/tpa.toml /etc/oauthing/
USER 10006:10006
ENTRYPOINT ["tpa"]
CMD ["serve", "--config", "/etc/oauthing/tpa.toml"]

FROM node:20-bookworm-slim AS idp
RUN groupadd -g 10003 idp && useradd --no-log-init -u 10003 -g 10003 -M -s /usr/sbin/nologin idp
WORKDIR /idp
COPY --from=idp-modules /idp/node_modules ./node_modules
COPY samples/idp/package.json ./
COPY samples/idp/src ./src
ENV NODE_ENV=production
USER 10003:10003
ENTRYPOINT ["node"]
CMD ["src/main.js"]

# Makes the keys and certificates of a deployment, once; root only to give each file to the user of its service.
FROM base AS setup
COPY --from=binaries /out/demo /usr/local/bin/
ENTRYPOINT ["demo", "setup"]

# The load tests with a whole system in one image, for the profile `loadtest`. Mosquitto is Debian's, the baseline.
FROM base AS loadtest
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends mosquitto >/dev/null && rm -rf /var/lib/apt/lists/* \
    && install -d -m 0777 /results
COPY --from=binaries /out/loadtest /out/didp /out/ignite /usr/local/bin/
COPY --from=binaries /out/examples /usr/local/bin/examples/
COPY --from=static-pcm /out/pcm /usr/local/bin/
ENTRYPOINT ["loadtest"]

# `docker build --target programs --output target/programs .`: what the images run, to be measured on the host by `loadtest`.
FROM scratch AS programs
COPY --from=binaries /out/loadtest /out/didp /out/ignite /
COPY --from=binaries /out/examples /examples/
COPY --from=static-pcm /out/pcm /

# An owner's broker: one static program and nothing else. The launcher starts it, each as a user of its own.
FROM scratch AS pcm
COPY --from=static-pcm /out/pcm /pcm
USER 65534:65534
ENTRYPOINT ["/pcm"]
