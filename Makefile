# Everything here needs Go 1.26 or later and nothing else, but for what is said of conformance and bench.

GO      ?= go
BIN     := bin/klamm
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/klamm-io/klamm/cmd/klamm/cli.Version=$(VERSION)
FUZZTIME ?= 10s

.PHONY: build run test race fuzz golden bench conformance chaos nightly check fmt generate clean

build: ## one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/klamm

run: build ## three brokers on 127.0.0.1:9092 to 9094 with their data in ./data
	$(BIN) start --brokers 3 --data-dir data

test: ## every test of the module, and of tests/ what needs no other toolchain
	$(GO) test ./...
	$(GO) -C tests test . ./smoke/... ./wire/... ./crash/... ./growth/... ./history/... ./chaos/...

race:
	$(GO) test -race ./...

fuzz: ## every fuzz target for FUZZTIME
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; done; done

golden: ## only the tests against bytes that Kafka's own classes wrote
	$(GO) test -count=1 -run 'Golden|Vector|Frames|Primitives|Codecs' ./...

conformance: build ## foreign clients, and the JVM broker beside klamm: needs Java, Maven, Python 3 and Node
	KLAMM=$(CURDIR)/$(BIN) $(GO) -C tests test -count=1 -timeout 20m ./conformance/...
	KLAMM=$(CURDIR)/$(BIN) $(GO) -C tests test -count=1 -timeout 5m -run TestForeign ./chaos -chaos.foreign

chaos: build ## faults on three processes of klamm under load, and a checker of what their clients saw
	KLAMM=$(CURDIR)/$(BIN) $(GO) -C tests test -count=1 -timeout 10m -parallel 3 -v -run TestProcesses ./chaos

bench: build ## figures beside the JVM broker and kfake: needs Java and Maven
	KLAMM=$(CURDIR)/$(BIN) $(GO) -C tests run ./bench

nightly: race conformance
	KLAMM=$(CURDIR)/$(BIN) $(GO) -C tests test -count=1 -timeout 30m -run "TestGrid$$" ./conformance -grid.exhaustive -grid.budget 20m
	KLAMM=$(CURDIR)/$(BIN) $(GO) -C tests test -count=1 -timeout 120m ./chaos -chaos.rounds 0 -chaos.seeds 10
	KLAMM=$(CURDIR)/$(BIN) $(GO) -C tests test -count=1 -timeout 60m -parallel 1 -run TestJVM ./chaos -chaos.jvm
	$(GO) -C tests test -count=1 -timeout 120m -run TestMemory ./chaos -chaos.rounds 0 -chaos.first 100 -chaos.seeds 100
	$(GO) test -race -timeout 60m ./log -run TestModel -model.steps 1000000
	$(GO) test -timeout 60m ./replication -run TestModel -count=500
	$(GO) test -timeout 120m ./replication -run 'TestSimulation$$' -sim.seeds 20000 -sim.from $$(date +%s)
	$(GO) test -tags klammbugs -timeout 120m ./replication -run 'TestPlantedBugs|TestScenariosFindBugs' -bug.seeds 5000
	$(MAKE) fuzz FUZZTIME=5m

check: ## what must hold before a commit
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'gofmt: the files above differ'; exit 1; }
	$(GO) vet ./...
	$(GO) -C tests vet ./...
	$(GO) -C tests build -o ../.tools/staticcheck honnef.co/go/tools/cmd/staticcheck
	.tools/staticcheck ./...
	cd tests && ../.tools/staticcheck ./...
	$(GO) -C tests test -count=1 -run TestFloors .
	$(GO) run ./wire/gen -dir wire -check

generate:
	$(GO) generate ./wire/...

fmt:
	gofmt -w $$(git ls-files '*.go')

clean:
	rm -rf bin .tools
