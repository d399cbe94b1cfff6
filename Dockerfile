# The program and nothing else: a static binary, the certificates it trusts, and
# a user that is not root.
FROM golang:1.26 AS build
WORKDIR /src
ENV CGO_ENABLED=0 GOTOOLCHAIN=local GOMODCACHE=/cache/modules GOCACHE=/cache/build
COPY . .
ARG VERSION=dev
RUN --mount=type=cache,target=/cache \
    go build -trimpath -ldflags "-X main.version=$VERSION" -o /memrelay ./cmd/memrelay
RUN echo 'memrelay:x:65532:65532::/:/memrelay' > /passwd

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /passwd /etc/passwd
COPY --from=build /memrelay /memrelay
USER 65532:65532
EXPOSE 8000
ENTRYPOINT ["/memrelay"]
CMD ["serve"]
