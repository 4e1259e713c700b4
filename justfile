# Short names for what is done often; `./test` does the work.

# What CI runs.
ci:
    ./test

# Every check and every test, set-up included.
test:
    ./test

# Formatting, lints and tests, with what is installed already.
quick:
    ./test quick

# The demo: a gateway, an issuer and a sample API, nothing to configure.
demo:
    cargo run --release -- demo

# One fuzz target, with coverage, for a minute: needs cargo-fuzz and a nightly compiler.
fuzz TARGET SECONDS="60":
    mkdir -p fuzz/corpus/{{TARGET}}
    cargo +nightly fuzz run {{TARGET}} fuzz/corpus/{{TARGET}} fuzz/seeds/{{TARGET}} -- -max_total_time={{SECONDS}}

# The long soak: everything changes under load for ten minutes: configuration, certificates, services, the process itself.
soak SECONDS="600":
    STEPGATE_SOAK_SECONDS={{SECONDS}} cargo nextest run --release soak --no-capture

# Deletions under `kill -9`, some hundred times.
kills KILLS="300":
    STEPGATE_KILLS={{KILLS}} cargo test --test gateway erasure_crash:: -- --nocapture

# What requests cost, beside other proxies and by scale: writes the figures and plots of docs/performance.md; some eighty minutes.
performance:
    cargo build --release
    benches/compare/run --json target/performance.json --into docs/performance.md
    benches/scale/run --json target/scale.json --into docs/performance.md

# Every set-up of the comparison is checked, nothing measured: a minute.
compare-check:
    cargo build --release
    benches/compare/run --check
