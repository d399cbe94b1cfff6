# What people run. `make` alone lists it. A fresh machine needs Go, make and git.

.DEFAULT_GOAL := help
SHELL := /bin/sh

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# The race detector needs cgo and its C compiler. Without one Go builds all the same.
CC_WORD := $(firstword $(shell go env CC))
RACE := $(shell [ "$$(go env CGO_ENABLED)" = 1 ] && command -v "$(CC_WORD)" >/dev/null 2>&1 && echo -race)

LINT_VERSION := 2.15.0
LINT := bin/golangci-lint

# The stations' lines that tests must reach, in percent.
COVERAGE := 85

.PHONY: help
help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: dev
dev: ## run everything on this machine, no database needed
	go run ./cmd/memrelay dev

.PHONY: demo
demo: ## send sample traffic through it, check what came of it, and end
	go run ./cmd/memrelay dev --once

.PHONY: test
test: ## run all tests with the race detector and count what they reach
	@$(if $(RACE),,echo "no C compiler ($(CC_WORD)) here: the tests run without the race detector")
	go test $(RACE) -shuffle=on -coverpkg=./internal/... -coverprofile=coverage.out ./...
	@awk -v limit=$(COVERAGE) "$$COUNT_COVERAGE" coverage.out

.PHONY: lint
lint: ## look for faults that compile
	@[ "$$($(LINT) version --short 2>/dev/null)" = $(LINT_VERSION) ] || { \
		echo "installing golangci-lint $(LINT_VERSION) into ./bin"; \
		GOBIN="$(CURDIR)/bin" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(LINT_VERSION); }
	$(LINT) run

.PHONY: generate
generate: ## write db/ from queries/ and migrations/, River's schema for it, and openapi.json
	go test ./migrations -run RiverSchema -update
	go tool sqlc generate
	go run ./internal/contract/openapi

.PHONY: verify
verify: ## check that what is generated, numbered and formatted is in step
	@echo "checking that migrations are numbered without gaps or duplicates"
	@printf '%s\n' migrations/*.sql | awk "$$CHECK_NUMBERS"
	@echo "checking that everything is gofmt-ed"
	@unformatted=$$(gofmt -l cmd internal migrations docs) && [ -z "$$unformatted" ] || { echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; }
	go mod tidy -diff
	go mod verify
	go tool sqlc diff
	go test ./migrations -run RiverSchema
	go run ./internal/contract/openapi -check
	go tool oasdiff validate --fail-on WARN openapi.json

.PHONY: breaking
breaking: ## look for changes of the API that break clients and are not announced
	go run ./internal/contract/breaking

.PHONY: bench
bench: ## measure everything beside Postgres itself, and write it into docs/; a quarter of an hour
	go run ./internal/bench -docs docs

.PHONY: bench-quick
bench-quick: ## measure the same in less than a minute; says little, writes nothing
	go run ./internal/bench -quick

.PHONY: bench-parts
bench-parts: ## measure the parts that need no database: time and allocations of each
	go test -run none -bench 'Door|VerifySignature|Parse|Sign|Accepts' -benchmem ./internal/inbound ./internal/outbound ./internal/match

.PHONY: bench-growth
bench-growth: ## measure with 1 and 10 million events stored; an hour and 35 GB of disk
	go run ./internal/bench -growth -docs docs

.PHONY: bench-lists
bench-lists: ## measure the pages of operators' lists with 100,000 events stored
	go run ./internal/bench -lists

.PHONY: bench-retention
bench-retention: ## measure the door while a million old events are deleted
	go run ./internal/bench -retention

.PHONY: bench-bloat
bench-bloat: ## watch for 20 minutes what tables grow to under a steady load
	go run ./internal/bench -bloat 20m -docs docs

.PHONY: bench-sync
bench-sync: ## measure a full and an incremental sync against a Zoho on this machine
	go run ./internal/bench -syncs

.PHONY: bench-deliver
bench-deliver: ## measure what goes out, also beside an endpoint that hangs and after one was away
	go run ./internal/bench -only deliver
	go run ./internal/bench -outage 2m

.PHONY: bench-search
bench-search: ## measure how well searches find, and how fast among a million memories
	go test -run none -bench SearchQuality -benchtime 1x ./internal/memory
	go run ./internal/bench -search

.PHONY: build
build: ## build the program into bin/memrelay
	CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/memrelay ./cmd/memrelay

# A line of a profile is "file:from,to statements times". Each test binary brings
# the same lines again: a statement is reached when any of them reached it.
define COUNT_COVERAGE
NR > 1 {
	statements[$$1] = $$2
	if ($$3 > 0) reached[$$1] = 1
}
END {
	for (line in statements) {
		folder = line
		sub(/\/[^\/]*:.*/, "", folder)
		sub(/^.*\/internal\//, "internal/", folder)
		n = statements[line]
		hit = (line in reached) ? n : 0
		of[folder] += n; in_tests[folder] += hit
		all += n; all_hit += hit
		if (folder ~ /^internal\/(inbound|process|memory|mirror|outbound|channel|reconcile|api|mcp)$$/) { stations += n; stations_hit += hit }
	}
	if (stations == 0) { print "coverage.out names no station"; exit 1 }
	for (folder in of) printf "%5.1f %%  %s\n", 100 * in_tests[folder] / of[folder], folder | "sort -k 3"
	close("sort -k 3")
	printf "%5.1f %%  in all\n", 100 * all_hit / all
	share = 100 * stations_hit / stations
	printf "%5.1f %%  the stations and the memory\n", share
	if (share < limit) { printf "want at least %d %% of the stations\n", limit; exit 1 }
}
endef
export COUNT_COVERAGE

# Number 1 is River's own schema, see migrations/migrations.go.
define CHECK_NUMBERS
BEGIN { want = 2 }
{
	name = $$0
	sub(/^.*\//, "", name)
	if (name !~ /^[0-9][0-9][0-9][0-9][0-9]_[a-z0-9_]+\.sql$$/ || substr(name, 1, 5) + 0 != want) {
		printf "%s: want number %05d here\n", $$0, want
		bad = 1
	}
	want++
}
END { exit bad }
endef
export CHECK_NUMBERS
