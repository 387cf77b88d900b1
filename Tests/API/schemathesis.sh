#!/usr/bin/env bash
# Tests/API/schemathesis.sh LANGEVIN: a server's answers to thousands of requests, good and bad, beside what its OpenAPI
# file says of them. Fails where they differ. Schemathesis is installed by pip into .build.
set -euo pipefail
langevin=$1
folder=$PWD/.build/schemathesis
if [ ! -x $folder/bin/st ]; then
  python3 -m venv $folder
  $folder/bin/pip install --quiet --no-cache-dir 'schemathesis==4.32.5'
fi

# Small pictures of few steps: nearly all of the time is the answers'.
work=$(mktemp -d)
line=$work/line
"$langevin" serve --port 0 --device cpu --max-steps 2 --max-pixels 4096 --max-count 2 --max-body 1 --queue 1000 \
  > "$line" 2> /dev/null &
server=$!
trap 'kill -INT $server; wait $server || true; rm -rf "$work"' EXIT
for _ in $(seq 300); do grep -q serving "$line" && break; sleep 0.1; done
address=$(sed 's/.* at //' "$line")

# Where it keeps what it found.
cd "$work"
# The same requests in every run. A survey of the drivers takes seconds, and has tests of its own. What the model or the
# server's limits refuse of a request that is well formed, no schema can tell: positive_data_acceptance would call it a
# fault.
run() {
  $folder/bin/st run "$address/openapi.json" --exclude-checks positive_data_acceptance \
    --max-examples "${EXAMPLES:-12}" --generation-deterministic --request-timeout 30 --no-color \
    --continue-on-failure "$@"
}
run --exclude-path /v1/devices --exclude-path /v1/images/edits --phases examples,coverage,fuzzing,stateful \
  --max-time 70
# Its own faults of files in forms end in an error of its own ("Unsupported type: 'Binary'").
run --include-path /v1/images/edits --phases examples,coverage,fuzzing --mode positive --max-time 20
