#!/bin/sh
# Installs what is missing, builds, and runs every check and every test. Says how long each part took and which files took
# longest; in CI a part that runs past its budget fails. The last line says how many passed.
set -u
cd "$(dirname "$0")/.." || exit 1
. scripts/packages.sh

results=dist/test-results.json
vm_results=dist/vm-results.json
failed=''
times=''

# step NAME BUDGET_S COMMAND...: seconds, with room for cores half as fast as those on which the whole takes 24 minutes.
step() {
  name=$1
  budget_s=$2
  shift 2
  printf '\n== %s\n' "$name"
  began_s=$(date +%s)
  "$@" </dev/null || failed="$failed $name"
  took_s=$(($(date +%s) - began_s))
  times="$times$name $took_s $budget_s
"
  if [ "$took_s" -gt "$budget_s" ]; then
    echo "$name took $took_s s, more than its $budget_s s" >&2
    [ "${CI-}" != true ] || failed="$failed $name(time)"
  fi
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
step build 60 node scripts/build.ts --host
step lint 30 biome check .
step types 30 tsc --noEmit
step unused 30 knip
step tests 1400 vitest run --reporter=default --reporter=json --outputFile.json="$results"
# Where it cannot be had, the tests that start it skip, and say why; in CI they fail.
./scripts/vm-packages.sh || echo 'there is no virtual machine for the tests' >&2
step machines 1200 vitest run --config vitest.vm.config.ts --reporter=default --reporter=json --outputFile.json="$vm_results"

printf '\n%s' "$times" | while read -r name took_s budget_s; do
  [ -z "$name" ] || printf '%-9s %5d s of %5d s\n' "$name" "$took_s" "$budget_s"
done
[ -z "$failed" ] || echo "failed:$failed"
node scripts/summary.ts "$results" "$vm_results" || failed="$failed summary"
[ -z "$failed" ]
