# The tools are pinned, and run by version, so that they are not in go.mod.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0
BENCHSTAT   = golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
FUZZTIME   ?= 1m

# The race detector needs cgo and a C compiler.
RACE := $(shell test "$$(go env CGO_ENABLED)" = 1 && command -v $$(go env CC) >/dev/null && echo -race || echo "WARNING: no C compiler: testing without the race detector" >&2)

.PHONY: run test lint vuln fuzz autobahn cover bench bench-growth bench-secure bench-smoke bench-micro bench-files cross torture

run: ## a server on port 9898
	go run ./cmd/crosscomm server

test: ## everything, the real pywayne included
	@command -v python3 >/dev/null || echo "WARNING: no python3: nothing is tested against the original" >&2
	go test $(RACE) -timeout 10m ./...
	cd bench && go test $(RACE) -timeout 10m ./...

lint: ## gofmt, go vet and staticcheck, in both modules
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not formatted: $$unformatted"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	cd bench && go vet ./... && go run $(STATICCHECK) ./...

vuln: ## asks an online database
	go run $(GOVULNCHECK) ./...

fuzz: ## each target for FUZZTIME
	@set -e; for pkg in . ./internal/backlog ./internal/checksum ./internal/frame ./internal/link ./internal/wsframe ./internal/loadgen ./internal/osssign ./ossserver; do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep ^Fuzz); do \
			echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$pkg; \
		done; \
	done

PYTHON2 ?= $(shell PYENV_VERSION=2.7.18 pyenv which python2.7 2>/dev/null || echo python2.7)

autobahn: ## all cases of the Autobahn test suite, against both roles; it needs Python 2.7 with pip, and some 20 minutes
	go test -count 1 -v -timeout 3h -run '^TestAutobahn$$' ./internal/link -autobahn $(PYTHON2)

cover:
	go test -coverprofile=coverage.out -coverpkg=.,./internal/...,./ossserver/...,./cmd/... ./...
	go tool cover -func=coverage.out | tail -1

bench: ## our server beside others, three rounds of each load by turns: some 30 minutes; tables for docs/performance.md
	cd bench && go run ./cmd/compare

bench-growth: ## the same with 100, 1,000 and 10,000 clients: what a message, a connection and a login cost as they become more
	cd bench && go run ./cmd/compare --growth

bench-secure: ## with TLS and with permessage-deflate, beside both without and gorilla with the same: some 15 minutes
	cd bench && go run ./cmd/compare --secure

bench-smoke: ## every server under every load, briefly and with few clients; judges no time, and fails if a message is lost, changed or out of order
	cd bench && go run ./cmd/compare --smoke

# Of the relay only: those of files are bench-files'.
MICRO = go test -run '^$$' -bench 'Scan|Forward|Write|Read|Route|Dispatch|Client' -benchtime $(BENCHTIME) -benchmem . ./internal/frame ./internal/link
BENCHTIME ?= 1s

bench-micro: ## the Go benchmarks of scan, read, route, queue, dispatch and client; OLD=COMMIT compares them with that commit's
ifndef OLD
	$(MICRO)
else
	@set -e; dir=$$(mktemp -d); trap 'git worktree remove --force $$dir/old; rm -rf $$dir' EXIT; \
	git worktree add --quiet --detach $$dir/old $(OLD); \
	for round in 1 2 3 4 5 6; do \
		(cd $$dir/old && $(MICRO)) >>$$dir/old.txt || echo "in $(OLD) not all of them run"; \
		$(MICRO) >>$$dir/new.txt; \
	done; \
	go run $(BENCHSTAT) $$dir/old.txt $$dir/new.txt
endif

bench-files: ## large and many files against the real pywayne; it fails if a goal is missed
	go test -run '^$$' -bench Files -benchtime 1x -timeout 20m ./interop/

torture: ## the attacks and faults of ./torture at length, and Python killed 50 times: some 3 hours, 2 of them a soak; SOAK=5m makes that shorter
	go test ./interop -v -run '^TestPythonIsKilled$$' -python-kills 50 -timeout 1h
	go test ./torture -full -v -rss-bound 400000000 -timeout 6h $(if $(SOAK),-soak $(SOAK))

cross: ## the systems that users run; arm is 32 bit
	@set -e; for target in linux/amd64 linux/arm64 linux/arm darwin/arm64 darwin/amd64 windows/amd64; do \
		echo "building for $$target"; \
		CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/} go build ./...; \
	done
	CGO_ENABLED=0 GOOS=windows go vet ./...
	@if [ "$$(go env GOARCH)" = amd64 ]; then echo "testing with 32 bits"; CGO_ENABLED=0 GOARCH=386 go test . ./internal/... ./ossserver; fi
