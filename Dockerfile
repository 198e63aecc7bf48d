# docker build -t binnacle .
# docker run --read-only -p 127.0.0.1:7070:7070 -v binnacle:/data binnacle   (with GPUs: --gpus all --pid=host)

FROM docker.io/oven/bun:1.4.5-slim AS build
WORKDIR /src
# The dependencies first: they change less often than the source.
COPY package.json bun.lock bunfig.toml ./
RUN bun install --frozen-lockfile --production --ignore-scripts
COPY tsconfig.json ./
COPY migrations ./migrations
COPY src ./src
RUN bun run build && mkdir /data

FROM docker.io/library/debian:bookworm-slim
LABEL org.opencontainers.image.title="binnacle" \
      org.opencontainers.image.description="One binary that keeps everything your training runs do" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /src/dist/binnacle /usr/local/bin/binnacle
# Owned by the user, so that a new named volume is too. Nothing else is ever written: --read-only works.
COPY --from=build --chown=10001:10001 /data /data
# NVIDIA's toolkit reads these where the container is given GPUs without --gpus: NVML is in "utility".
ENV BINNACLE_DATA=/data \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=utility
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 7070
# SIGTERM lets accepted data reach the disk; `docker stop` waits for it.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --retries=3 CMD ["/usr/local/bin/binnacle", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/binnacle"]
# Inside a container loopback reaches nobody. The port is plain HTTP, said aloud here: publish it on 127.0.0.1, or put
# TLS before it. The token stays: `docker exec CONTAINER binnacle token`.
CMD ["start", "--host", "0.0.0.0", "--insecure-http"]
