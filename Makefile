# The tools are pinned, and run by version, so that they are not in go.mod.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0
FUZZTIME   ?= 1m

# The race detector needs a C compiler.
RACE := $(shell command -v $$(go env CC) >/dev/null && echo -race || echo "no C compiler: testing without the race detector" >&2)

.PHONY: run test lint vuln fuzz cover bench cross

run: ## a server on port 9898
	go run ./cmd/crosscomm server

test: ## everything, the real pywayne included
	go test $(RACE) -timeout 10m ./...

lint:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not formatted: $$unformatted"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...

vuln: ## asks an online database
	go run $(GOVULNCHECK) ./...

fuzz: ## each target for FUZZTIME
	@set -e; for pkg in . ./internal/frame; do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep ^Fuzz); do \
			echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

cover:
	go test -coverprofile=coverage.out -coverpkg=.,./internal/...,./cmd/... ./...
	go tool cover -func=coverage.out | tail -1

bench:
	go test -run '^$$' -bench . -benchmem . ./internal/...

cross: ## the systems that users run; arm is 32 bit
	@set -e; for target in linux/amd64 linux/arm64 linux/arm darwin/arm64 darwin/amd64 windows/amd64; do \
		echo "building for $$target"; \
		CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/} go build ./...; \
	done
