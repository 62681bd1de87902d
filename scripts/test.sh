#!/bin/sh
# Installs what is missing, builds, and runs every check and every test. The last line says how many passed.
set -u
cd "$(dirname "$0")/.." || exit 1
. scripts/packages.sh

results=dist/test-results.json
vm_results=dist/vm-results.json
failed=''

step() {
  name=$1
  shift
  printf '\n== %s\n' "$name"
  "$@" </dev/null || failed="$failed $name"
}

give_up() {
  echo "$1"
  echo '0 passed, 1 failed, 0 skipped'
  exit 1
}

install_packages "$debian_packages" || give_up 'the Debian packages could not be installed'
install_node_modules || give_up 'npm ci failed'
PATH=$PWD/node_modules/.bin:$PATH
export PATH

rm -f "$results" "$vm_results"
step build node scripts/build.ts --host
step lint biome check .
step types tsc --noEmit
step unused knip
step tests vitest run --reporter=default --reporter=json --outputFile.json="$results"
# Where it cannot be had, the tests that start it skip, and say why; in CI they fail.
./scripts/vm-packages.sh || echo 'there is no virtual machine for the tests' >&2
step machines vitest run --config vitest.vm.config.ts --reporter=default --reporter=json --outputFile.json="$vm_results"

echo
[ -z "$failed" ] || echo "failed:$failed"
node scripts/summary.ts "$results" "$vm_results" || failed="$failed summary"
[ -z "$failed" ]
